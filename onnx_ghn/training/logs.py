"""The figures of a run by step: as JSON lines, and for TensorBoard."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_ghn.errors import ModelWriteError
from onnx_ghn.installing import install_command
from onnx_ghn.onnx_io import write_file
from onnx_ghn.onnx_io.continuing import open_to_continue

__all__ = ["Report", "RunLog", "mean_figures", "write_record"]

logger = logging.getLogger(__name__)

#: Is called after each step with the number of steps done and the figures of the last one.
Report = Callable[[int, dict[str, float]], None]


def mean_figures(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The means over steps; of what counts up (`skipped`), the last value."""
    if not steps:
        return {}
    means = {key: sum(figures[key] for figures in steps) / len(steps) for key in steps[-1]}
    return means | {key: steps[-1][key] for key in ("skipped",) if key in steps[-1]}


def write_record(path: Path, record: Mapping[str, object]) -> None:
    """Write a JSON record into a run's folder, which is made. Raises ModelWriteError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelWriteError(f"{path.parent}: cannot be made ({error.strerror}); name another folder") from error
    write_file(path, (json.dumps(record, indent=2) + "\n").encode(), force=True, what="a record")


class RunLog:
    """log.jsonl in a run's folder, and TensorBoard's events beside it where that is installed.

    Args:
        folder: the run's; None keeps nothing.
        resumed_at: the step of the checkpoint that the run goes on from; lines of later steps are dropped.
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
            line = json.dumps({"step": step, **{k: round(v, 6) for k, v in figures.items()}}) + "\n"
            with open_to_continue(self.path) as fd:
                os.lseek(fd, 0, os.SEEK_END)
                os.write(fd, line.encode())
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
            lines = [line for line in path.read_text("utf-8").splitlines() if _step_of(line) <= self._resumed_at]
            write_file(path, "".join(f"{line}\n" for line in lines), force=True, what="a log")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError:
            logger.warning("no TensorBoard, so %s alone is written: %s", path, install_command("train"))
            return
        self._board = SummaryWriter(str(path.parent / "tensorboard"), purge_step=self._resumed_at + 1)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # cut off in the middle by an interruption
