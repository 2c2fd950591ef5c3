"""What became of the tensors of a model, counted from the decisions on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from onnx_ghn.json_types import Json
from onnx_ghn.prediction.plan import OUTCOMES, Decision, Outcome

__all__ = ["CoverageReport"]

_NOT_TRAINED = ("statistic", "frozen")


@dataclasses.dataclass(frozen=True)
class CoverageReport:
    """Counts and share of elements by outcome; statistics are calibrated or kept, never predicted, frozen ones kept."""

    entries: Sequence[Decision]
    notes: list[str] = dataclasses.field(default_factory=list)

    def count(self, outcome: Outcome) -> int:
        """Number of tensors of that outcome."""
        return sum(entry.outcome == outcome for entry in self.entries)

    def n_elements(self, outcome: Outcome) -> int:
        """Number of elements of that outcome."""
        return sum(entry.parameter.size for entry in self.entries if entry.outcome == outcome)

    @property
    def n_trainable(self) -> int:
        """Number of elements of all trainable tensors (all but statistics and frozen ones)."""
        return sum(entry.parameter.size for entry in self.entries if entry.outcome not in _NOT_TRAINED)

    def share(self, outcome: Outcome) -> float:
        """Share of the trainable elements, 0 to 1."""
        return self.n_elements(outcome) / self.n_trainable if self.n_trainable else 0.0

    def reasons(self) -> dict[str, list[Decision]]:
        """The decisions on tensors that no GHN predicts, by reason, the heaviest reason first."""
        by_reason: dict[str, list[Decision]] = {}
        for entry in self.entries:
            if entry.outcome in ("fallback", "kept"):
                by_reason.setdefault(entry.reason, []).append(entry)
        return dict(sorted(by_reason.items(), key=lambda item: -sum(e.parameter.size for e in item[1])))

    def to_dict(self) -> Json:
        """For JSON."""
        return {
            "n_trainable_elements": self.n_trainable,
            "tensors": {outcome: self.count(outcome) for outcome in OUTCOMES},
            "elements": {outcome: self.n_elements(outcome) for outcome in OUTCOMES},
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
