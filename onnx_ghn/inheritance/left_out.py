"""What makes up for inputs that are left out where a network is smaller than its donor."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from onnx_ghn.inheritance.donor import Donor
from onnx_ghn.inheritance.importance import squares
from onnx_ghn.inheritance.labels import Ints, Span
from onnx_ghn.inheritance.tracing import Trace

__all__ = ["LeftOut"]


class LeftOut:
    """The scale that a layer loses with the inputs that are left out.

    Sums over half of the inputs are smaller. A norm behind them gives them their scale again, but a network without
    norms loses some in each layer: of a SqueezeNet of half the width the last one gave a fortieth of what the donor's
    gives, and gradients were as small. Independent inputs of one scale give sums of the donor's scale where the weight
    keeps its sum of squares.
    """

    def __init__(self, trace: Trace, donor: Donor) -> None:
        self._applies = not _has_norms(trace) and not _has_norms(donor.trace)
        self._donor = donor
        self._silent: npt.NDArray[np.bool_] | None = None

    def factor(self, source: str, axis: int, span: Span, index: Ints) -> float:
        """What the inputs that are taken are multiplied by; 1 where a network has norms, or nothing is left out.

        It is at most the root of how many times as many inputs the donor has: a large input that is left out is not
        made up for by small ones.

        Args:
            source: a weight of the donor.
            axis: of its inputs.
            span: of their channels.
            index: the positions that are taken, -1 for none.
        """
        is_taken = np.isin(np.arange(span.size), index)
        if not self._applies or is_taken.all():
            return 1.0
        if self._silent is None:
            self._silent = self._always_zero()
        counts = ~self._silent[self._donor.trace.labels.roots(span.labels)]
        sums = np.where(counts, squares(self._donor.values(source), axis), 0.0)
        parts = [(float(each.sum()), float(each[is_taken].sum())) for each in (sums, counts)]
        return math.sqrt(min((whole / kept for whole, kept in parts if kept), default=1.0))

    def _always_zero(self) -> npt.NDArray[np.bool_]:
        """Whether what writes a channel is zero, as pruning leaves it, by the channel's united label."""
        labels = self._donor.trace.labels
        total, written = np.zeros(labels.count), np.zeros(labels.count, np.bool_)
        for name, spans in self._donor.trace.axes.items():
            for axis, span in enumerate(spans):
                if span is not None and span.made:
                    roots = labels.roots(span.labels)
                    np.add.at(total, roots, squares(self._donor.values(name), axis))
                    written[roots] = True
        silent: npt.NDArray[np.bool_] = written & (total == 0)
        return silent


def _has_norms(trace: Trace) -> bool:
    written = any(use.kind.startswith("norm_") for use in trace.uses.values())
    return bool(written or trace.norms or trace.averaged or trace.in_norms or trace.standardised or trace.running_norms)
