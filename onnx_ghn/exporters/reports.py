"""What became of a model's weights on the way to ONNX and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

__all__ = ["ExportReport", "LoadReport", "WeightNote"]


@dataclasses.dataclass(frozen=True)
class WeightNote:
    """A weight that did not come through: its name and shape in the framework, why, and what to do about it."""

    name: str
    shape: tuple[int, ...]
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)}: {self.cause}; {self.remedy}"


@dataclasses.dataclass(frozen=True)
class _Report:
    framework: str
    exporter: str  # which converter wrote the file, and its version
    n_weights: int  # of the model: trainable tensors and statistics
    n_elements: int  # in them
    left: tuple[WeightNote, ...]

    @property
    def complete(self) -> bool:
        """Whether every weight came through."""
        return not self.left

    @property
    def n_elements_left(self) -> int:
        """Elements of the weights that did not."""
        total = 0
        for note in self.left:
            size = 1
            for length in note.shape:
                size *= length
            total += size
        return total

    @property
    def share(self) -> float:
        """Share of the elements that did, 0 to 1."""
        return 1 - self.n_elements_left / self.n_elements if self.n_elements else 1.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "framework": self.framework,
            "exporter": self.exporter,
            "n_weights": self.n_weights,
            "n_elements": self.n_elements,
            "share": self.share,
            "left": [dataclasses.asdict(note) for note in self.left],
        }


@dataclasses.dataclass(frozen=True)
class ExportReport(_Report):
    """Of an export: `left` names the weights that the file does not hold as they are.

    Attributes:
        path: the file.
        notes: what the exporter did that a user should know.
    """

    path: Path | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**super().to_dict(), "path": str(self.path), "notes": list(self.notes)}


@dataclasses.dataclass(frozen=True)
class LoadReport(_Report):
    """Of a load: `left` names the weights that keep the values that they had."""
