"""The figures of a run by step: as JSON lines, and for a tracker."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from onnx_ghn.errors import ModelWriteError, RuntimeFailure
from onnx_ghn.json_types import finite
from onnx_ghn.onnx_io import write_file
from onnx_ghn.onnx_io.continuing import open_to_continue
from onnx_ghn.training.trackers import OpenTracker, Tracker, end

__all__ = ["Report", "RunLog", "mean_figures", "write_record"]

logger = logging.getLogger(__name__)

#: Is called after each step with the number of steps done and the figures of the last one.
Report = Callable[[int, dict[str, float]], None]


def mean_figures(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure over the steps that have it; of what counts up (`skipped`), the last value."""
    means = {}
    for key in max(steps, key=len, default={}):  # a step that was skipped has fewer
        values = [figures[key] for figures in steps if key in figures]
        means[key] = values[-1] if key == "skipped" else sum(values) / len(values)
    return means


def write_record(path: Path, record: Mapping[str, object]) -> None:
    """Write a JSON record into a run's folder, which is made; numbers that are not finite as null. Raises
    ModelWriteError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelWriteError(f"{path.parent}: cannot be made ({error.strerror}); name another folder") from error
    text = json.dumps(finite(record), indent=2, allow_nan=False)
    write_file(path, f"{text}\n".encode(), force=True, what="a record")


class RunLog:
    """log.jsonl in a run's folder, and a tracker that shows the same figures. A context: it closes the tracker.

    Args:
        folder: the run's; None keeps nothing.
        resumed_at: the step of the checkpoint that the run goes on from; lines of later steps are dropped.
        open_tracker: opens the tracker.

    Raises:
        ModelWriteError: the log cannot be written.
        RuntimeFailure, NotInstalledError: the tracker cannot be opened.
    """

    def __init__(self, folder: Path | None, resumed_at: int, open_tracker: OpenTracker) -> None:
        self.path = None if folder is None else folder / "log.jsonl"
        self._resumed_at = resumed_at
        self._open_tracker = open_tracker
        self._tracker: Tracker | None = None

    def __enter__(self) -> Self:
        if self.path is not None:
            try:
                self._begin(self.path)
            except OSError as error:
                raise self._unwritable(error) from error
            self._tracker = self._open_tracker(self.path.parent, self._resumed_at)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._tracker is not None:
            end(self._tracker, failed=kind is not None)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Keep the figures of a step. A tracker that fails is told and left out. Raises ModelWriteError."""
        if self.path is None:
            return
        try:
            rounded = finite({key: round(value, 6) for key, value in figures.items()})
            line = json.dumps({"step": step, **rounded}, allow_nan=False) + "\n"
            with open_to_continue(self.path) as fd:
                os.lseek(fd, 0, os.SEEK_END)
                os.write(fd, line.encode())
        except OSError as error:
            raise self._unwritable(error) from error
        if self._tracker is not None:
            try:
                self._tracker.log(step, figures)
            except RuntimeFailure as error:
                logger.warning("%s; the run goes on without it, and %s has all figures", error, self.path)
                end(self._tracker, failed=True)
                self._tracker = None

    def _begin(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            lines = [line for line in path.read_text("utf-8").splitlines() if _step_of(line) <= self._resumed_at]
            write_file(path, "".join(f"{line}\n" for line in lines), force=True, what="a log")

    def _unwritable(self, error: OSError) -> ModelWriteError:
        return ModelWriteError(f"{self.path}: cannot be written ({error.strerror}); free some space")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # cut off in the middle by an interruption
