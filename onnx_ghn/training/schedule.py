"""Learning rates by step, in the published forms. A run that resumes needs nothing but the number of its step.

The order of the operations is part of each form: a rate that differs in its last bit gives other weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

__all__ = [
    "Schedule",
    "by_epoch",
    "constant",
    "cosine",
    "cosine_after",
    "exponential",
    "linear_warmup",
    "ramp",
    "step_decay",
]

#: The learning rate of a step, counted from 0.
Schedule = Callable[[int], float]


def constant(lr: float) -> Schedule:
    """One rate for all steps."""
    return lambda step: lr


def step_decay(lr: float, boundaries: Sequence[int], gamma: float) -> Schedule:
    """A rate that is multiplied by `gamma` at each of the boundaries."""
    return lambda step: lr * gamma ** sum(step >= boundary for boundary in boundaries)


def exponential(lr: float, gamma: float, every: int = 1) -> Schedule:
    """A rate that is multiplied by `gamma` after each `every` steps."""
    return lambda step: lr * gamma ** (step // every)


def cosine(lr: float, steps: int) -> Schedule:
    """A rate that falls from `lr` to 0 along half a period of a cosine."""
    return lambda step: _half_period(lr, math.pi * step / max(steps, 1))


def cosine_after(lr: float, first: int, last: int) -> Schedule:
    """`cosine` from the step `first` to the step `last`, and 0 from there on."""
    return lambda step: _half_period(lr, math.pi * min((step - first) / max(1, last - first), 1.0))


def _half_period(lr: float, angle: float) -> float:
    return lr * 0.5 * (1 + math.cos(angle))


def by_epoch(schedule: Schedule, steps_per_epoch: int) -> Schedule:
    """A schedule of epochs: its rate stays constant within each epoch."""
    return lambda step: schedule(step // steps_per_epoch)


def linear_warmup(schedule: Schedule, lr: float, steps: int) -> Schedule:
    """A schedule whose first steps rise in equal parts to `lr`."""
    return lambda step: lr * (step + 1) / steps if step < steps else schedule(step)


def ramp(schedule: Schedule, steps: int, start: float) -> Schedule:
    """A schedule whose first steps are multiplied by a factor that rises from `start` to 1."""
    return lambda step: schedule(step) * (start + (1 - start) * step / steps if step < steps else 1)
