"""How much each channel of a donor counts, for the selection by norm: one choice for queries, keys and values."""

from __future__ import annotations

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.inheritance.donor import Donor
from onnx_ghn.inheritance.labels import Ints
from onnx_ghn.inheritance.structure import MATRICES
from onnx_ghn.inheritance.tracing import Heads

__all__ = ["Importance", "squares"]


class Importance:
    """The norms of what writes a donor's channels.

    A dimension of a head counts as much as its query and its key together, and a head as much as these and its values:
    queries, keys and values of one head are of no use with those of another.
    """

    def __init__(self, donor: Donor) -> None:
        self._donor = donor
        self._joint: dict[int, float] | None = None

    def of(self, source: str, axis: int) -> Array:
        """What each position along an axis of a tensor counts."""
        if self._joint is None:
            self._joint = self._of_heads()
        norms = self._norms(source, axis)
        span = self._donor.trace.axes[source][axis]
        if span is None or not self._joint:
            return norms
        roots = self._donor.trace.labels.roots(span.labels).tolist()
        return np.array([self._joint.get(root, norm) for root, norm in zip(roots, norms.tolist(), strict=True)])

    def _norms(self, source: str, axis: int) -> Array:
        norms: Array = np.sqrt(squares(self._donor.values(source), axis))
        return norms

    def _of_heads(self) -> dict[int, float]:
        """What the channels of heads count, by their united labels."""
        trace = self._donor.trace
        if not trace.heads:
            return {}
        single = np.zeros(trace.labels.count)
        for name, use in trace.uses.items():
            for axis, span in enumerate(trace.axes[name]):
                if use.kind in MATRICES and span is not None and span.made:
                    np.add.at(single, trace.labels.roots(span.labels), self._norms(name, axis))
        joint: dict[int, float] = {}
        for heads in trace.heads:
            for labels, counts in self._of_one(heads, single):
                for label, count in zip(labels.reshape(-1).tolist(), counts.reshape(-1).tolist(), strict=True):
                    joint[label] = joint.get(label, 0.0) + count
        return joint

    def _of_one(self, heads: Heads, single: Array) -> list[tuple[Ints, Array]]:
        """Labels of the queries, keys and values of one attention, and what they count: in sum alike, head by head."""
        trace = self._donor.trace
        queries, keys = (trace.labels.roots(labels).reshape(-1, heads.width) for labels in (heads.left, heads.right))
        if queries.shape != keys.shape:
            return []
        both = single[queries] + single[keys]  # (heads, width)
        values = next((v for s, v in trace.mixtures if np.array_equal(trace.labels.roots(s), keys[:, 0])), None)
        if values is None:
            return [(queries, both), (keys, both)]
        values = trace.labels.roots(values)
        own = single[values]  # (heads, width of a value)
        shared = both + own.sum(1, keepdims=True) / both.shape[1]
        return [(queries, shared), (keys, shared), (values, own + both.sum(1, keepdims=True) / own.shape[1])]


def squares(values: Array, axis: int) -> Array:
    """Sums of squares over all other axes, (size of the axis,)."""
    found: Array = np.square(values, dtype=np.float64).sum(tuple(i for i in range(values.ndim) if i != axis))
    return found
