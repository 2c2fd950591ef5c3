"""What became of the tensors of a model, counted from the decisions on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from onnx_ghn.json_types import Json
from onnx_ghn.prediction.choosing import Choice
from onnx_ghn.prediction.plan import OUTCOMES, Decision, Outcome

__all__ = ["CoverageReport"]

_NOT_TRAINED = ("statistic", "frozen", "constant")


@dataclasses.dataclass(frozen=True)
class CoverageReport:
    """Counts and share of elements by outcome; statistics are calibrated or kept, never predicted, frozen ones kept.

    Attributes:
        entries: the decisions on the graph's parameters, in their order, then those on what may be learned.
        notes: for the user.
        constants: the other stored tensors of the model. With the entries, their elements are all that the file stores.
        choice: what the policy made of the model; None where none was asked.
        ghn_name: the GHN that predicts.
    """

    entries: Sequence[Decision]
    notes: list[str] = dataclasses.field(default_factory=list)
    constants: Sequence[Decision] = ()
    choice: Choice | None = None
    ghn_name: str = ""

    @property
    def learned(self) -> list[Decision]:
        """The entries without those that may be constants."""
        return [entry for entry in self.entries if not entry.parameter.uncertain]

    @property
    def uncertain(self) -> list[Decision]:
        """The entries that may be learned, or constants: neither the graph nor the file tells."""
        return [entry for entry in self.entries if entry.parameter.uncertain]

    def count(self, outcome: Outcome) -> int:
        """Number of tensors of that outcome, without those that may be constants."""
        return sum(entry.outcome == outcome for entry in (*self.learned, *self.constants))

    @property
    def n_running_statistics(self) -> int:
        """Number of running means and variances; singular vectors are statistics, too, but of weights."""
        return sum(entry.outcome == "statistic" and not entry.parameter.singular for entry in self.learned)

    def n_elements(self, outcome: Outcome) -> int:
        """Number of elements of that outcome, without those that may be constants.

        The elements of a trained tensor that are not trained themselves (frozen rows, biases of zeros that an operator
        takes beside those of the framework) count as frozen.
        """
        rows = (*self.learned, *self.constants)
        if outcome in _NOT_TRAINED:
            n_elements = sum(entry.parameter.size for entry in rows if entry.outcome == outcome)
            trained = [entry.parameter for entry in self.learned if entry.outcome not in _NOT_TRAINED]
            return n_elements + (sum(p.size - p.n_trained for p in trained) if outcome == "frozen" else 0)
        return sum(entry.parameter.n_trained for entry in rows if entry.outcome == outcome)

    @property
    def n_trainable(self) -> int:
        """Number of elements of all trainable tensors: all but statistics, frozen ones and what may be a constant."""
        return sum(entry.parameter.n_trained for entry in self.learned if entry.outcome not in _NOT_TRAINED)

    def share(self, outcome: Outcome) -> float:
        """Share of the trainable elements, 0 to 1."""
        return self.n_elements(outcome) / self.n_trainable if self.n_trainable else 0.0

    @property
    def n_scaled(self) -> int:
        """Number of tensors that keep their start, or get a standard one, but for a factor."""
        return sum(entry.factor != 1 for entry in self.learned)

    @property
    def sentence(self) -> str:
        """How many tensors have weights of the GHN, and where they are few, why."""
        n_inherited = self.count("inherited")
        n_predicted, n = self.count("predicted"), sum(entry.outcome not in _NOT_TRAINED for entry in self.learned)
        told = self.choice.told if self.choice is not None else ""
        share = f"{n_predicted:,} of {n:,} tensors"
        if n_inherited:
            donors = dict.fromkeys(entry.origin.donor for entry in self.learned if entry.origin is not None)
            return f"{n_inherited:,} tensors inherited from {', '.join(donors)}, " + (
                f"weights by {self.ghn_name} for {share}" if n_predicted and self.ghn_name else f"{share} predicted"
            )
        weights = f"weights by {self.ghn_name} for {share}" if self.ghn_name else f"new weights for {share}"
        if self.choice is None or self.choice.name == "all" or n_predicted == n:
            return weights + (f" ({told})" if told else "")
        start = "keep their start" if any(entry.outcome == "kept" for entry in self.learned) else "get a standard start"
        if self.n_scaled:
            start += f", {self.n_scaled:,} of them scaled"
        elif self.choice.unit_scales:  # foretold
            start += ", scaled layer by layer"
        others = f"the others {start} (`policy` all fills them)"
        if n_predicted:
            return f"{weights} ({told}), {others}"
        return f"{told}: {share} predicted, {others}"

    @property
    def outcomes(self) -> list[Outcome]:
        """What may become of a parameter: inherited only where there is a donor."""
        without_donors = not any(entry.origin is not None for entry in self.entries)
        return [o for o in OUTCOMES if o != "constant" and not (o == "inherited" and without_donors)]

    def reasons(self) -> dict[str, list[Decision]]:
        """The decisions on tensors that no GHN predicts, by reason, the heaviest reason first."""
        by_reason: dict[str, list[Decision]] = {}
        for entry in self.learned:
            if entry.outcome in ("fallback", "kept"):
                by_reason.setdefault(entry.reason, []).append(entry)
        return dict(sorted(by_reason.items(), key=lambda item: -sum(e.parameter.size for e in item[1])))

    def to_dict(self) -> Json:
        """For JSON."""
        return {
            "n_trainable_elements": self.n_trainable,
            "tensors": {outcome: self.count(outcome) for outcome in self.outcomes},
            "elements": {outcome: self.n_elements(outcome) for outcome in self.outcomes},
            "share_predicted": self.share("predicted"),
            "may_be_learned": {
                "tensors": len(self.uncertain),
                "elements": sum(entry.parameter.size for entry in self.uncertain),
            },
            "policy": self.choice.to_dict() if self.choice is not None else None,
            "told": self.sentence,
            "notes": list(self.notes),
            "parameters": [entry.to_dict() for entry in self.entries],
            "constants": [entry.to_dict() for entry in self.constants],
        }

    def __repr__(self) -> str:
        parts = [
            f"{self.count(outcome)} {outcome} ({self.share(outcome):.2%})"
            for outcome in ("predicted", "inherited", "fallback", "kept")
            if self.count(outcome)
        ]
        return f"CoverageReport({self.n_trainable:,} trainable elements: {', '.join(parts) or 'none'})"
