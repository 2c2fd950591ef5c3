"""What became of each tensor in a prediction, and why."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from onnx_ghn.graph import Parameter

__all__ = ["CoverageEntry", "CoverageReport", "Outcome"]

Outcome = Literal["predicted", "fallback", "kept", "statistic", "frozen"]
_NOT_TRAINED = ("statistic", "frozen")


@dataclasses.dataclass(frozen=True)
class CoverageEntry:
    """One tensor: predicted by the GHN, given a standard initialisation, kept as it was, a running statistic, or
    frozen: a constant or a layer that the exported model does not train.
    """

    parameter: Parameter
    outcome: Outcome
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        parameter = self.parameter
        return {
            "name": parameter.name,
            "role": parameter.role.value,
            "shape": list(parameter.shape),
            "n_elements": parameter.size,
            "dtype": parameter.dtype,
            "storage": parameter.storage,
            "op": parameter.op,
            "outcome": self.outcome,
            "reason": self.reason,
        }


@dataclasses.dataclass
class CoverageReport:
    """Counts and share of elements by outcome; statistics are calibrated or kept, never predicted, frozen ones kept."""

    entries: list[CoverageEntry]
    notes: list[str] = dataclasses.field(default_factory=list)

    def count(self, outcome: Outcome) -> int:
        """Tensors of that outcome."""
        return sum(entry.outcome == outcome for entry in self.entries)

    def n_elements(self, outcome: Outcome) -> int:
        """Elements of that outcome."""
        return sum(entry.parameter.size for entry in self.entries if entry.outcome == outcome)

    @property
    def n_trainable(self) -> int:
        """Elements of all trainable tensors (all but statistics and frozen ones)."""
        return sum(entry.parameter.size for entry in self.entries if entry.outcome not in _NOT_TRAINED)

    def share(self, outcome: Outcome) -> float:
        """Share of the trainable elements, 0 to 1."""
        return self.n_elements(outcome) / self.n_trainable if self.n_trainable else 0.0

    def reasons(self) -> dict[str, list[CoverageEntry]]:
        """The entries that no GHN predicted, by reason, the heaviest reason first."""
        by_reason: dict[str, list[CoverageEntry]] = {}
        for entry in self.entries:
            if entry.outcome in ("fallback", "kept"):
                by_reason.setdefault(entry.reason, []).append(entry)
        return dict(sorted(by_reason.items(), key=lambda item: -sum(e.parameter.size for e in item[1])))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        outcomes: tuple[Outcome, ...] = ("predicted", "fallback", "kept", "statistic", "frozen")
        return {
            "n_trainable_elements": self.n_trainable,
            "tensors": {outcome: self.count(outcome) for outcome in outcomes},
            "elements": {outcome: self.n_elements(outcome) for outcome in outcomes},
            "share_predicted": self.share("predicted"),
            "notes": list(self.notes),
            "parameters": [entry.to_dict() for entry in self.entries],
        }

    def __repr__(self) -> str:
        parts = [
            f"{self.count(outcome)} {outcome} ({self.share(outcome):.2%})"
            for outcome in ("predicted", "fallback", "kept")
            if self.count(outcome)
        ]
        return f"CoverageReport({self.n_trainable:,} trainable elements: {', '.join(parts) or 'none'})"
