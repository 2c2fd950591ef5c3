"""The file of rows: a run a line of JSON, appended whole, so that whatever stops the race loses no finished run."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from onnx_ghn.errors import OptionError

__all__ = ["Key", "Row", "append", "read", "repair"]

_BEGINNING = b'{"network": '

Key = tuple[str, str, float, int, int]  # network, start, rate, seed, steps


@dataclasses.dataclass(frozen=True)
class Row:
    """A run.

    Attributes:
        steps: the whole budget; `marks` are the steps at which it was scored.
        judged, choosing: percent at the marks, on the two held-out parts; None from where it diverged.
        judged_loss: the loss on the judged part.
        curve: coarse training losses.
        weights: a digest of those that the run began with.
        same_as: the start whose run this is too, since both begin with the same weights; such a run is not repeated.
        failed: why there was no run at all, or nothing.
        versions: of the packages that matter, and the GHN's name.
        revision: of this repository.
    """

    network: str
    kind: str
    task: str
    suite: str
    metric: str
    start: str
    rate: float
    seed: int
    steps: int
    optimizer: str
    marks: tuple[int, ...] = ()
    judged: tuple[float | None, ...] = ()
    choosing: tuple[float | None, ...] = ()
    judged_loss: tuple[float | None, ...] = ()
    curve: tuple[float, ...] = ()
    diverged: bool = False
    weights: str = ""
    same_as: str = ""
    failed: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    device: str = "cpu"
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    revision: str = ""

    @property
    def key(self) -> Key:
        """What makes a run the same run."""
        return self.network, self.start, self.rate, self.seed, self.steps


def read(path: Path) -> list[Row]:
    """All whole rows, in the order of the file. Raises OptionError: the file holds something else."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].splitlines()
    rows = []
    for i, line in enumerate(lines, 1):
        try:
            values: dict[str, Any] = json.loads(line)
            values |= {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
            rows.append(Row(**values))
        except (ValueError, TypeError, AttributeError) as error:
            raise OptionError(f"{path}, line {i}: not a row of a race; give another file") from error
    if not _BEGINNING.startswith(content[whole:][: len(_BEGINNING)]):  # of a line that was cut off, or nothing
        raise OptionError(f"{path}, line {len(lines) + 1}: not a row of a race; give another file")
    return rows


def repair(path: Path) -> None:
    """Take out a last line that was cut off, so that the next one begins anew. While nothing else writes."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def append(path: Path, row: Row) -> None:
    """One line by one write, so that several processes may append to one file."""
    line = json.dumps(dataclasses.asdict(row), ensure_ascii=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode("utf-8"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
