"""A network on a task: what it learns, how long, by which optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from torch import nn

from racing.tasks import TASKS

__all__ = ["ATTENTION", "DENSE", "ONE_D", "PERCEPTRON", "RECURRENT", "TWO_D", "Entrant", "Optimizer"]

Optimizer = Literal["sgd", "adamw"]

# Kinds of networks, as the tables call them.
TWO_D, ONE_D, ATTENTION = "2-D convolutional classifier", "1-D convolutions", "transformer"
RECURRENT, DENSE, PERCEPTRON = "recurrent", "dense output", "perceptron"

_RATES: dict[Optimizer, tuple[float, ...]] = {"sgd": (0.1, 0.0316, 0.01), "adamw": (3.16e-3, 1e-3, 3.16e-4)}


@dataclasses.dataclass(frozen=True)
class Entrant:
    """A network on a task.

    Attributes:
        kind: of networks, for the table.
        steps: of training, before `--budget-factor`.
        build: draws it with torch's defaults, or with its author's.
        rates: the grid, a factor of √10 apart; empty takes the one of the optimizer.
    """

    name: str
    kind: str
    task: str
    suites: tuple[str, ...]
    optimizer: Optimizer
    steps: int
    build: Callable[[], nn.Module]
    rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"{self.name}: there is no task {self.task!r}")
        if not self.rates:
            object.__setattr__(self, "rates", _RATES[self.optimizer])
