"""Reports of what became of a model's weights on the way to ONNX and back."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

__all__ = ["ExportReport", "LoadReport", "WeightNote"]


@dataclasses.dataclass(frozen=True)
class WeightNote:
    """A weight that was not transferred: its name and shape in the framework, the cause, and what to do about it."""

    name: str
    shape: tuple[int, ...]
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)}: {self.cause}; {self.remedy}"


@dataclasses.dataclass(frozen=True)
class _Report:
    framework: str
    exporter: str  # the converter that writes the framework's files, and its version
    n_weights: int  # trainable tensors and statistics of the model
    n_elements: int  # their elements
    unmatched: tuple[WeightNote, ...]

    @property
    def complete(self) -> bool:
        """Whether every weight was transferred."""
        return not self.unmatched

    @property
    def n_elements_unmatched(self) -> int:
        """Elements of the weights that were not transferred."""
        return sum(math.prod(note.shape) for note in self.unmatched)

    @property
    def share(self) -> float:
        """Share of the elements that were transferred, 0 to 1."""
        return 1 - self.n_elements_unmatched / self.n_elements if self.n_elements else 1.0

    def to_dict(self) -> dict[str, object]:
        """The report as a JSON object."""
        return {
            "framework": self.framework,
            "exporter": self.exporter,
            "n_weights": self.n_weights,
            "n_elements": self.n_elements,
            "share": self.share,
            "left": [dataclasses.asdict(note) for note in self.unmatched],
        }


@dataclasses.dataclass(frozen=True)
class ExportReport(_Report):
    """The report of an export. `unmatched` names the weights that the file does not hold as they are.

    Attributes:
        path: the file.
        notes: what the exporter did that a user should know.
    """

    path: Path | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The report as a JSON object."""
        return {**super().to_dict(), "path": str(self.path), "notes": list(self.notes)}


@dataclasses.dataclass(frozen=True)
class LoadReport(_Report):
    """The report of a load. `unmatched` names the weights that keep the values that they had.

    Attributes:
        notes: what a user should know of the file.
    """

    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The report as a JSON object."""
        return {**super().to_dict(), "notes": list(self.notes)}
