"""Attention whose heads become wider: what becomes of the rows of queries."""

from __future__ import annotations

import math

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.inheritance.channel_map import AxisMap
from onnx_ghn.inheritance.labels import Ints, Span
from onnx_ghn.inheritance.structure import MATRICES
from onnx_ghn.inheritance.tracing import Heads, Trace

__all__ = ["WiderHeads"]


class WiderHeads:
    """The queries of a recipient whose heads may be wider than those of the donor.

    Attributes:
        doubts: why outputs are not kept exactly.
    """

    def __init__(self, mine: Trace, theirs: Trace) -> None:
        self.doubts: list[str] = []
        self._mine, self._theirs = mine, theirs
        self._queries, self._donor_queries = _Queries(mine), _Queries(theirs)

    def rows(self, name: str, source: str, span: Span, chosen: AxisMap) -> tuple[Ints, Array | None, str]:
        """The rows of queries whose heads become wider: further dimensions are zero, the others × √(new / old).

        Keys take copies, so that both sides learn. With a norm of the queries the factor comes about by itself.

        Returns:
            the donor's positions, what each row is multiplied by, and what was done, for people.
        """
        index = chosen.index
        own = self._mine.labels.roots(span.labels)
        products = self._queries.of(own)
        width = self._donor_width(source) if products else None
        if width is None:
            return index, None, ""
        heads = next((heads for heads in products if width < heads.width), None)
        if heads is None:
            return index, None, ""
        here = np.isin(own, self._mine.labels.roots(heads.left))
        new = _first_of_each(index, here, heads.width)
        kinds = {self._mine.uses[w].kind for w in heads.left_writers if w in self._mine.uses}
        if name not in heads.left_writers or "norm_scale" in kinds:
            if not heads.left_writers:
                self.doubts.append(f"heads grow from {width} to {heads.width}, and nothing scales the queries")
            is_padded = self._mine.uses[name].kind in MATRICES or name in heads.left_writers
            return new if is_padded else index, None, "queries padded with zeros"
        factor = np.where(here, math.sqrt(heads.width / width), 1.0)
        return new, factor, f"queries padded with zeros, × √({heads.width}/{width})"

    def _donor_width(self, source: str) -> int | None:
        """The width of the donor's heads that a tensor writes, None where it writes none."""
        spans = [span for span in self._theirs.axes[source] if span is not None and span.made]
        if not spans:
            return None
        labels = np.concatenate([self._theirs.labels.roots(span.labels) for span in spans])
        return next((heads.width for heads in self._donor_queries.of(labels)), None)


class _Queries:
    """Products of queries and keys by the united labels of their queries, so that nobody looks at all of them."""

    def __init__(self, trace: Trace) -> None:
        self._heads: list[Heads] = trace.heads
        roots = [np.unique(trace.labels.roots(heads.left)) for heads in trace.heads]
        labels = np.concatenate([*roots, np.zeros(0, np.int64)])
        numbers = np.repeat(np.arange(len(roots)), [len(each) for each in roots])
        order = np.argsort(labels, kind="stable")
        self._labels, self._numbers = labels[order], numbers[order]

    def of(self, roots: Ints) -> list[Heads]:
        """Those in which some of the labels are queries, in their order."""
        wanted = np.unique(roots)
        first = np.searchsorted(self._labels, wanted, side="left")
        last = np.searchsorted(self._labels, wanted, side="right")
        found = {n for a, b in zip(first, last, strict=True) if a < b for n in self._numbers[a:b].tolist()}
        return [self._heads[number] for number in sorted(found)]


def _first_of_each(index: Ints, here: np.ndarray, width: int) -> Ints:
    """The donor's positions, of which each head takes each but once; -1 for the others.

    Args:
        here: which rows are queries.
        width: of a head.
    """
    at = np.flatnonzero(here)
    head = np.arange(len(at)) // width
    taken = index[at]
    pairs = np.stack([head, taken], axis=1)  # (rows, 2)
    _, first = np.unique(pairs, axis=0, return_index=True)
    new = index.copy()
    new[at] = -1
    new[at[first]] = taken[first]
    return new
