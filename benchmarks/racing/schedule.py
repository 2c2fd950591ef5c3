"""What is to be run, in which order, side by side or one after the other."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from onnx_ghn.errors import OnnxGhnError
from onnx_ghn.workers import process_pool
from racing.choice import CHOICE_SEED, EXTENSIONS, best_rate, missing_rates
from racing.entrant import Entrant
from racing.entrants import ENTRANTS
from racing.parts import DataAbsentError
from racing.provenance import revision, versions
from racing.rows import Row, append, read
from racing.running import train
from racing.starts import Situation, UnavailableError, begin
from racing.tasks import TASKS, splits

__all__ = ["Settings", "race", "run_group"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all runs of a call share.

    Attributes:
        out: the file of rows.
        budget_factor: multiplies every network's number of steps.
        until: no run begins after this moment of `time.monotonic`, which all processes of a machine share.
    """

    out: Path
    data_root: Path
    device: str = "cpu"
    budget_factor: float = 1.0
    ghn: str | None = None
    until: float = float("inf")

    def steps(self, entrant: Entrant) -> int:
        """The budget of a network."""
        return max(4, round(self.budget_factor * entrant.steps))


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in their rate alone, so that one prediction serves all of them."""

    network: str
    start: str
    seed: int
    rates: tuple[float, ...]


def race(
    entrants: Sequence[Entrant],
    starts: Sequence[str],
    n_seeds: int,
    settings: Settings,
    jobs: int,
    tell: Callable[[str], None],
) -> None:
    """Run what the file lacks: seed 0 at all rates, network by network; then the other seeds at the chosen rate."""
    groups: list[Group] = []
    for _ in range(1 + EXTENSIONS):  # the grid, and what lies beyond where its end is best
        before, groups = groups, list(_missing(entrants, starts, [CHOICE_SEED], settings))
        if groups == before:  # done, or what cannot be run
            break
        _work(groups, settings, jobs, tell)
    others = [seed for seed in range(n_seeds) if seed != CHOICE_SEED]
    _work(list(_missing(entrants, starts, others, settings)), settings, jobs, tell)


def _missing(
    entrants: Sequence[Entrant], starts: Sequence[str], seeds: Sequence[int], settings: Settings
) -> Iterator[Group]:
    rows = read(settings.out)
    done = {row.key for row in rows}
    for seed in seeds:
        for entrant in entrants:
            steps = settings.steps(entrant)
            for start in starts:
                own = [row for row in rows if row.key[:2] == (entrant.name, start) and row.steps == steps]
                if seed == CHOICE_SEED:
                    rates = missing_rates(own, entrant.rates)
                else:
                    chosen = best_rate(own, entrant.rates)
                    rates = () if chosen is None else (chosen,)
                rates = tuple(rate for rate in rates if (entrant.name, start, rate, seed, steps) not in done)
                if rates:
                    yield Group(entrant.name, start, seed, rates)


def _work(groups: list[Group], settings: Settings, jobs: int, tell: Callable[[str], None]) -> None:
    told: set[str] = set()

    def once(lines: list[str]) -> None:
        for line in lines:
            if line not in told:
                told.add(line)
                tell(line)

    if jobs == 1 or settings.device != "cpu":
        for group in groups:
            once(run_group(group, settings))
        return
    with process_pool(jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(run_group, group, settings) for group in groups]):
            once(done.result())


def run_group(group: Group, settings: Settings) -> list[str]:
    """Run and append rows; gives lines to tell."""
    if time.monotonic() > settings.until:
        return []
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    entrant = ENTRANTS[group.network]
    task, steps = TASKS[entrant.task], settings.steps(entrant)
    situation = Situation(entrant, group.seed, settings.data_root, settings.ghn)
    lines = []
    try:
        data = splits(entrant.task, settings.data_root)
    except DataAbsentError as absent:
        return [f"the task {entrant.task} is left out: {absent}"]
    data = data.to(settings.device)
    for rate in group.rates:
        if time.monotonic() > settings.until:
            break
        row = Row(
            network=entrant.name, kind=entrant.kind, task=task.name, suite=entrant.suites[0],
            metric=task.objective.metric, start=group.start, rate=rate, seed=group.seed, steps=steps,
            optimizer=entrant.optimizer, device=_device(settings.device), versions=versions(settings.ghn),
            revision=revision(),
        )  # fmt: skip
        try:
            module = begin(situation, group.start)
        except UnavailableError as error:
            return [str(error)]
        except OnnxGhnError as error:
            row = dataclasses.replace(row, failed=str(error))
        else:
            row = dataclasses.replace(row, weights=_digest(module))
            twin = next((other for other in read(settings.out) if _is_same_run(row, other)), None)
            if twin is None:
                outcome = train(module, entrant, data, rate, group.seed, steps, settings.device)
                row = dataclasses.replace(
                    row, marks=outcome.steps, judged=outcome.judged.metric, choosing=outcome.chosen.metric,
                    judged_loss=outcome.judged.loss, curve=outcome.curve, diverged=outcome.diverged,
                    seconds=round(outcome.seconds, 2), cpu_seconds=round(outcome.cpu_seconds, 2),
                )  # fmt: skip
            else:
                row = dataclasses.replace(twin, start=row.start, same_as=twin.same_as or twin.start)
        append(settings.out, row)
        lines.append(_line(row))
    return lines


def _line(row: Row) -> str:
    what = f"{row.network}, {row.start}, rate {row.rate:g}, seed {row.seed}"
    if row.failed:
        return f"{what}: failed, {row.failed}"
    scores = " / ".join("–" if score is None else f"{score:.1f}" for score in row.judged)
    how = f"as {row.same_as}" if row.same_as else f"in {row.seconds:.0f} s"
    return f"{what}: {scores} {row.metric.partition(':')[0]} {how}"


def _digest(module: nn.Module) -> str:
    """Of all values of a network, by their names."""
    found = hashlib.sha256()
    for name, value in module.state_dict().items():
        found.update(name.encode())
        found.update(value.cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def _is_same_run(row: Row, other: Row) -> bool:
    """Whether another row is of a run that would go the same way, on the same device and by the same software."""

    def told(one: Row) -> tuple[object, ...]:
        return one.network, one.task, one.rate, one.seed, one.steps, one.device, one.weights, one.versions

    return bool(row.weights) and told(row) == told(other)


def _device(device: str) -> str:
    """Its name, and how pictures lie in its memory: rows of another layout differ in their last digits."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return f"{name}, channels last"
