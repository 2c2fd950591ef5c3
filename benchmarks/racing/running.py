"""One run: a network from given weights at one rate, to the end of its budget."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from racing.entrant import Entrant, Optimizer
from racing.kept_state import KeptState, Progress
from racing.parts import Part, Splits
from racing.tasks import TASKS, Task

__all__ = ["Outcome", "Scores", "train"]

_CLIP, _WARM_UP, _CURVE_POINTS, _EVAL_BATCH = 5.0, 0.05, 20, 250
_MARKS = (0.25, 0.5, 1.0)
_DECAY = {"sgd": 5e-4, "adamw": 0.05}


@dataclasses.dataclass(frozen=True)
class Scores:
    """Percent and loss at the marks, None from where the run diverged."""

    metric: tuple[float | None, ...]
    loss: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        steps: at which the held-out parts were scored: 25, 50 and 100 % of the budget.
        chosen: scores on the part that a rate is chosen by.
        judged: scores on the part that counts.
        curve: mean training losses of the twentieths of the budget, as far as it got.
        diverged: whether the loss or a score was not finite.
    """

    steps: tuple[int, ...]
    chosen: Scores
    judged: Scores
    curve: tuple[float, ...]
    diverged: bool
    seconds: float
    cpu_seconds: float


def train(
    module: nn.Module,
    entrant: Entrant,
    splits: Splits,
    rate: float,
    seed: int,
    steps: int,
    device: str = "cpu",
    shares: tuple[float, ...] = _MARKS,
    kept: KeptState | None = None,
) -> Outcome:
    """Train in place for `steps`, the rate falling to zero along a cosine; the same every time on one machine.

    Args:
        splits: the data, on `device` already.
        seed: of batches, augmentation and dropout. The batches are the same for all starts.
        shares: of the budget, after which the held-out parts are scored.
        kept: where the state is kept, for a run that goes on where it was stopped; its times are those since then.
    """
    began, cpu_began = time.perf_counter(), time.process_time()
    task = TASKS[entrant.task]
    # 2-D convolutions of a CPU take up to half the time so, those of a GPU as well.
    module = module.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    rule = _optimizer(module, entrant.optimizer, rate)
    marks = [max(1, round(share * steps)) for share in shares]
    diverged = False
    torch.manual_seed(seed)
    progress = Progress() if kept is None else kept.restore(module, rule)
    found, losses = progress.found, progress.losses
    batches = itertools.islice(_batches(splits.train, task, seed), progress.step, None)
    for step in range(progress.step, steps):
        for group in rule.param_groups:
            group["lr"] = rate * _schedule(step, steps, warm_up=entrant.optimizer == "adamw")
        inputs, targets = next(batches)
        inputs = _channels_last(inputs)
        with _mixed(device):
            outputs = module(inputs)
        loss = task.objective.loss(outputs.float(), targets)
        rule.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), _CLIP)
        rule.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            diverged = True
            break
        for _ in range(marks.count(step + 1)):
            for name, part in (("choose", splits.choose), ("judge", splits.judge)):
                found[name].append(_scores(module, task, part, device))
            diverged = not all(math.isfinite(value) for scores in found.values() for value in scores[-1])
        if diverged:
            break
        progress.step = step + 1
        if kept is not None and kept.due(progress.step):
            kept.write(progress, module, rule)
    return Outcome(
        tuple(marks),
        _padded(found["choose"], len(marks)),
        _padded(found["judge"], len(marks)),
        tuple(_coarse(losses, steps)),
        diverged,
        time.perf_counter() - began,
        time.process_time() - cpu_began,
    )


def _optimizer(module: nn.Module, name: Optimizer, rate: float) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if name == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=_DECAY[name])
    return torch.optim.AdamW(parameters, rate, weight_decay=_DECAY[name])


def _schedule(step: int, steps: int, *, warm_up: bool) -> float:
    """The share of the rate: half a cosine to zero, for AdamW after a linear rise over a twentieth of the budget."""
    rise = round(_WARM_UP * steps) if warm_up else 0
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


def _batches(part: Part, task: Task, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end: each pass over the data in an order of its own; small data may give small batches."""
    generator = torch.Generator().manual_seed(seed)
    size = min(task.batch_size, len(part))
    while True:
        order = torch.randperm(len(part), generator=generator)
        for start in range(0, len(part) - size + 1, size):
            picked = order[start : start + size].to(part.inputs.device)
            inputs, targets = part.inputs[picked], part.targets[picked]
            if task.augment is not None:
                inputs = task.augment(inputs, generator)
            yield task.prepare(inputs), task.prepare_target(targets)


@torch.no_grad()
def _scores(module: nn.Module, task: Task, part: Part, device: str) -> tuple[float, float]:
    """(percent, loss) by running statistics, over the whole part at once."""
    module.eval()
    outputs = []
    for start in range(0, len(part), _EVAL_BATCH):
        with _mixed(device):
            inputs = _channels_last(task.prepare(part.inputs[start : start + _EVAL_BATCH]))
            outputs.append(module(inputs).float())
    module.train()
    together, targets = torch.cat(outputs), task.prepare_target(part.targets)
    return task.objective.score(together, targets), float(task.objective.loss(together, targets))


def _channels_last(inputs: Tensor) -> Tensor:
    """Pictures (N, C, H, W) as the kernels of `train` lie in memory, whatever else as it is."""
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


@contextlib.contextmanager
def _mixed(device: str) -> Iterator[None]:
    """bfloat16 where it is fast."""
    with torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda")):
        yield


def _padded(scores: list[tuple[float, float]], n_marks: int) -> Scores:
    def column(which: int) -> tuple[float | None, ...]:
        values = [values[which] if math.isfinite(values[which]) else None for values in scores]
        return (*values, *[None] * (n_marks - len(values)))

    return Scores(column(0), column(1))


def _coarse(losses: list[float], steps: int) -> Iterator[float]:
    """Means of the twentieths of `steps` that were reached and are finite."""
    points = min(_CURVE_POINTS, steps)
    edges = [round(i * steps / points) for i in range(points + 1)]
    for start, end in itertools.pairwise(edges):
        piece = [loss for loss in losses[start:end] if math.isfinite(loss)]
        if piece:
            yield sum(piece) / len(piece)
