"""What a run says: figures by step as JSON lines and for TensorBoard, and a bar or lines for who watches."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from onnx_ghn.errors import ModelWriteError

__all__ = ["Report", "RunLog", "mean_figures", "reports"]

logger = logging.getLogger(__name__)

Report = Callable[[int, dict[str, float]], None]


def mean_figures(window: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over steps; of what counts up (`skipped`) the last."""
    if not window:
        return {}
    means = {key: sum(figures[key] for figures in window) / len(window) for key in window[-1]}
    return means | {key: window[-1][key] for key in ("skipped",) if key in window[-1]}


class RunLog:
    """log.jsonl in a run's folder, and TensorBoard's events beside it where that is installed.

    Args:
        folder: of the run; None keeps nothing.
        resumed_at: lines of later steps, written before an interruption and after the last checkpoint, are dropped.
    """

    def __init__(self, folder: Path | None, resumed_at: int = 0) -> None:
        self.path = None if folder is None else folder / "log.jsonl"
        self._resumed_at = resumed_at
        self._board: Any = None
        self._begun = False

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Keep the figures of a step. Raises ModelWriteError."""
        if self.path is None:
            return
        try:
            if not self._begun:
                self._begin(self.path)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **{k: round(v, 6) for k, v in figures.items()}}) + "\n")
        except OSError as error:
            raise ModelWriteError(f"{self.path}: cannot be written ({error.strerror}); free some space") from error
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()

    def _begin(self, path: Path) -> None:
        self._begun = True
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            kept = [line for line in path.read_text("utf-8").splitlines() if _step_of(line) <= self._resumed_at]
            path.write_text("".join(f"{line}\n" for line in kept), "utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError:
            logger.warning("no TensorBoard, so %s alone is written: pip install 'onnx-ghn[train]'", path)
            return
        self._board = SummaryWriter(str(path.parent / "tensorboard"), purge_step=self._resumed_at + 1)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # cut off in the middle by an interruption


@contextlib.contextmanager
def reports(
    first: int,
    steps: int,
    interval: int,
    per_second: Mapping[str, float],
    *,
    silent: bool = False,
) -> Iterator[Report]:
    """A bar with the time left where there is a terminal, else a line at each interval.

    Args:
        first, steps: where the run is, and its end.
        per_second: what each step does, by unit: {"nets": 8, "images": 512}.
        silent: say nothing (all processes of a group but one).
    """
    start = time.perf_counter()
    window: list[dict[str, float]] = []

    def line(step: int) -> str:
        mean = mean_figures(window)
        seconds, skipped = max(mean.pop("seconds"), 1e-9), mean.pop("skipped", 0)
        told = [f"{key} {value:.4g}" for key, value in mean.items()]
        told += [f"{amount / seconds:,.0f} {unit}/s" for unit, amount in per_second.items()]
        told.append(f"{seconds:.2f} s/step")
        told.append(f"{seconds * (steps - step) / 3600:.1f} h left")
        if skipped:
            told.append(f"skipped {int(skipped)}")
        return "  ".join(told)

    def plain(step: int, figures: dict[str, float]) -> None:
        if silent:
            return
        window.append(figures)
        if step % interval == 0 or step == steps:
            click.echo(f"step {step}/{steps}  {line(step)}  ({time.perf_counter() - start:.0f} s)")
            window.clear()

    if silent or not sys.stderr.isatty():
        yield plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("training", total=steps, completed=first)

        def bar(step: int, figures: dict[str, float]) -> None:
            window.append(figures)
            del window[:-interval]
            progress.update(task, completed=step, description=line(step))

        yield bar
