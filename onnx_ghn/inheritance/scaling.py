"""Tensors that are multiplied by a number, so that others need not be: tied tables, standardised weights, numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from onnx_ghn.inheritance.channel_map import AxisMap
from onnx_ghn.inheritance.tracing import Trace

__all__ = ["Scaling"]


class Scaling:
    """What the tensors of a recipient are multiplied by, beyond what their own rule says.

    Attributes:
        factors: by name.
        doubts: why outputs are not kept exactly.
    """

    def __init__(self, trace: Trace, donor: Trace, copies: Mapping[str, str]) -> None:
        """Start with no factors.

        Args:
            copies: of the recipient's matrices, those that hold what a table holds, by its name: one parameter that an
                exporter stored twice, as the embedding and, turned, as the last layer's weight.
        """
        self.factors: dict[str, float] = {}
        self.doubts: list[str] = []
        self._trace, self._donor = trace, donor
        self.copies = {copy: name for copy, name in copies.items() if _is_table(trace, name)}

    def divides(self, name: str, source: str, chosen: AxisMap, have: int) -> tuple[bool, str]:
        """Whether copies of inputs share what their original gave, and a doubt; else something else is scaled.

        What feeds a table that is a layer's weight, too, is divided; a weight that the model standardises is not
        divided, as that would be standardised away, but its gain is.
        """
        counts = chosen.counts(have)
        most = float(counts.max(initial=0))
        if name in self._trace.standardised:
            if most <= 1:
                return False, ""
            gain, theirs = self._trace.gains.get(name), self._donor.gains.get(source)
            if gain is None or theirs is None or counts.min() != most or not gain[1]:
                return False, "the model standardises the weight, so what follows it has another scale"
            self.factors[gain[0]] = theirs[1] / (gain[1] * most)
            return False, ""
        if not self.is_tied(name) or most <= 1:
            return True, ""
        for writer in self._fed_by(name):
            self.factors[writer] = 1 / most
        if counts.min() != most:
            self.doubts.append(f"{name} is tied, and its channels are not copied equally often")
        if not self._fed_by(name):
            self.doubts.append(f"{name} is tied, and nothing before it can be scaled")
        return False, ""

    def is_tied(self, name: str) -> bool:
        """Whether a table is the weight of a layer, too."""
        if name in self.copies or name in self.copies.values():
            return True
        return any(span is not None and span.contracted and span.made for span in self._trace.axes[name])

    def _fed_by(self, name: str) -> list[str]:
        """What scales the values that a table, or a copy of it, is multiplied by as a layer's weight."""
        copies = [copy for copy, original in self.copies.items() if original == name]
        return [writer for each in (name, *copies) for writer in self._trace.fed_by.get(each, ())]

    def other_numbers(self, pairs: Mapping[str, str]) -> None:
        """Where the models multiply by other numbers (√width behind an embedding), weights make up for it.

        The scale of attention is none of these: queries take that.
        """
        of_heads = {
            name
            for trace in (self._trace, self._donor)
            for heads in trace.heads
            for name in (*heads.left_writers, *heads.right_writers)
        }
        for writers, number in self._trace.scaled.items():
            theirs = self._donor.scaled.get(tuple(pairs.get(name, "") for name in writers))
            if theirs is None or set(writers) & of_heads or math.isclose(number, theirs, rel_tol=1e-6):
                continue
            factor = theirs / number
            for name in writers:
                self.factors[name] = self.factors.get(name, 1.0) * factor
                if self.is_tied(name):  # what reads it as a layer's weight takes it back
                    for other in self._fed_by(name):
                        self.factors[other] = self.factors.get(other, 1.0) / factor


def _is_table(trace: Trace, name: str) -> bool:
    """Whether rows are taken of a matrix, as of an embedding; a weight that layers share is divided in all of them."""
    return name in trace.uses and trace.uses[name].kind == "table"
