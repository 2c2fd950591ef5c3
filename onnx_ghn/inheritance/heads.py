"""Attention that grows: what becomes of the rows of queries whose heads are wider, and whether heads stay whole."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.inheritance.channel_map import AxisMap, ChannelMap
from onnx_ghn.inheritance.labels import Ints, Span
from onnx_ghn.inheritance.structure import MATRICES
from onnx_ghn.inheritance.tracing import Heads, Trace

__all__ = ["WiderHeads", "head_doubts"]


@dataclasses.dataclass(frozen=True, eq=False)
class _Side:
    """The queries of a product, or its keys.

    Attributes:
        labels: of its channels, (heads × width,).
        writers: the tensors that, scaled together, scale it.
        what: queries or keys, for people.
    """

    heads: Heads
    labels: Ints
    writers: tuple[str, ...]
    what: str


class WiderHeads:
    """The queries of a recipient whose heads may be wider than those of the donor.

    Where weights read the queries besides (those of a set transformer pass the attention by), the keys take their part.

    Attributes:
        doubts: why outputs are not kept exactly.
    """

    def __init__(self, mine: Trace, theirs: Trace) -> None:
        self.doubts: list[str] = []
        self._mine, self._theirs = mine, theirs
        read = [mine.labels.roots(span.labels) for span in mine.labels.spans if span.contracted]
        self._read_by_weights = np.concatenate([*read, np.zeros(0, np.int64)])
        self._sides = _Sides(mine, [self._padded(heads) for heads in mine.heads])
        self._donor_sides = _Sides(theirs, [side for heads in theirs.heads for side in (_queries(heads), _keys(heads))])

    def rows(self, name: str, source: str, span: Span, chosen: AxisMap) -> tuple[Ints, Array | None, str]:
        """The rows of queries whose heads become wider, or whose products the model scales by another number.

        Of each dimension that a wider head copies, all but the first query are zero; keys take copies, so that both
        sides learn. What scales the queries last is scaled: a norm where there is one, as what comes before it copies.

        Returns:
            the donor's positions, what each row is multiplied by, and what was done, for people.
        """
        index = chosen.index
        own = self._mine.labels.roots(span.labels)
        sides = self._sides.of(own)
        donor = self._donor_heads(source) if sides else None
        side = next((side for side in sides if donor is not None and donor.width <= side.heads.width), None)
        if side is None or donor is None:
            return index, None, ""
        heads = side.heads
        ratio = _ratio(heads, donor)
        is_wider, is_scaled = heads.width > donor.width, not math.isclose(ratio, 1, rel_tol=1e-6)
        if not is_wider and not is_scaled:
            return index, None, ""
        grown = f"heads grow from {donor.width} to {heads.width}" if is_wider else "products of heads are scaled"
        if self._is_read(side.labels):  # the product of two branches of a network
            self._doubt(f"{grown}, and weights read what is multiplied, too")
            return index, None, ""
        here = np.isin(own, self._mine.labels.roots(side.labels))
        if name in side.writers:
            new = _first_of_each(index, here, heads.width) if is_wider else index
            told = f"{side.what} padded with zeros, " if is_wider else f"{side.what} "
            return new, np.where(here, ratio, 1.0), f"{told}× {_told(ratio, heads, donor)}"
        if side.writers:
            return index, None, ""
        if is_scaled:
            self._doubt(f"{grown}, and nothing scales the {side.what}")
        if not is_wider or self._mine.uses[name].kind not in MATRICES:
            return index, None, ""
        return _first_of_each(index, here, heads.width), None, f"{side.what} padded with zeros"

    def _doubt(self, told: str) -> None:
        if told not in self.doubts:
            self.doubts.append(told)

    def _is_read(self, labels: Ints) -> bool:
        """Whether weights read some of the channels: zeros in the place of copies would be missed there."""
        return bool(np.isin(self._mine.labels.roots(labels), self._read_by_weights).any())

    def _padded(self, heads: Heads) -> _Side:
        """Which side of a product of the recipient takes zeros where heads are wider."""
        return _keys(heads) if self._is_read(heads.left) and not self._is_read(heads.right) else _queries(heads)

    def _donor_heads(self, source: str) -> Heads | None:
        """The donor's heads whose queries or keys a tensor writes, None where it writes none."""
        spans = [span for span in self._theirs.axes[source] if span is not None and span.made]
        if not spans:
            return None
        labels = np.concatenate([self._theirs.labels.roots(span.labels) for span in spans])
        return next((side.heads for side in self._donor_sides.of(labels)), None)


def _queries(heads: Heads) -> _Side:
    return _Side(heads, heads.left, heads.left_writers, "queries")


def _keys(heads: Heads) -> _Side:
    return _Side(heads, heads.right, heads.right_writers, "keys")


def _ratio(heads: Heads, donor: Heads) -> float:
    """How many times smaller the number is that scales the products of queries and keys than the donor's."""
    ratio = donor.scale / heads.scale if heads.scale else math.nan
    return ratio if math.isfinite(ratio) and ratio else math.sqrt(heads.width / donor.width)


def _told(ratio: float, heads: Heads, donor: Heads) -> str:
    usual = math.isclose(ratio, math.sqrt(heads.width / donor.width), rel_tol=1e-6)
    return f"√({heads.width}/{donor.width})" if usual else f"{ratio:.4g}"


class _Sides:
    """Sides of products by their united labels, so that nobody looks at all of them."""

    def __init__(self, trace: Trace, sides: Sequence[_Side]) -> None:
        self._sides = sides
        roots = [np.unique(trace.labels.roots(side.labels)) for side in sides]
        labels = np.concatenate([*roots, np.zeros(0, np.int64)])
        numbers = np.repeat(np.arange(len(roots)), [len(each) for each in roots])
        order = np.argsort(labels, kind="stable")
        self._labels, self._numbers = labels[order], numbers[order]

    def of(self, roots: Ints) -> list[_Side]:
        """Those that some of the labels are of, in their order."""
        wanted = np.unique(roots)
        first = np.searchsorted(self._labels, wanted, side="left")
        last = np.searchsorted(self._labels, wanted, side="right")
        found = {n for a, b in zip(first, last, strict=True) if a < b for n in self._numbers[a:b].tolist()}
        return [self._sides[number] for number in sorted(found)]


def head_doubts(channels: ChannelMap) -> list[str]:
    """Doubts of heads that are no whole heads of the donor, when all channels are chosen.

    A head of the recipient has to multiply the dimensions of queries and keys that some head of the donor multiplies,
    all of them and no others, and to weigh the values that this one weighs.
    """
    mine, theirs = channels.mine, channels.theirs
    known = {pairs for heads in theirs.heads for pairs in _pairs(*(theirs.labels.roots(x) for x in _sides(heads)))}
    broken = 0
    for heads in mine.heads if known else ():
        left, right = (channels.target(side) for side in _sides(heads))
        broken += sum(bool(pairs) and pairs not in known for pairs in _pairs(left, right))
    weighed: dict[int, set[frozenset[int]]] = {}
    for scores, values in theirs.mixtures:
        for score, row in zip(theirs.labels.roots(scores).tolist(), theirs.labels.roots(values).tolist(), strict=True):
            weighed.setdefault(score, set()).add(frozenset(row))
    strange = 0
    for scores, values in mine.mixtures if weighed else ():
        for score, row in zip(channels.target(scores).tolist(), channels.target(values).tolist(), strict=True):
            taken = frozenset(row) - {-1}
            strange += score >= 0 and bool(taken) and min(taken) >= 0 and taken not in weighed.get(score, ())
    doubts = [f"{broken} heads multiply other dimensions of queries and keys than the donor's"] if broken else []
    doubts += [f"{strange} heads weigh other values than the donor's"] if strange else []
    counts = {len(_sides(heads)[0]) for heads in theirs.heads if heads.is_numbered}
    told_apart = sum(heads.is_numbered and len(_sides(heads)[0]) not in counts for heads in mine.heads)
    if told_apart and known:
        doubts.append(f"{told_apart} attentions add numbers that go with the number of heads (ALiBi), not the donor's")
    return doubts


def _sides(heads: Heads) -> tuple[Ints, Ints]:
    """Queries and keys, (heads, width) each."""
    return heads.left.reshape(-1, heads.width), heads.right.reshape(-1, heads.width)


def _pairs(left: Ints, right: Ints) -> list[frozenset[tuple[int, int]]]:
    """The queries and keys that each head multiplies; nothing for heads of which some are not known.

    Args:
        left, right: united labels, (heads, width); -1 for zeros, -2 where nothing is known.
    """
    if left.shape != right.shape:
        return []
    found = []
    for queries, keys in zip(left.tolist(), right.tolist(), strict=True):
        pairs = frozenset(zip(queries, keys, strict=True))
        is_known = all(query > -2 and key > -2 for query, key in pairs)
        found.append(frozenset(pair for pair in pairs if min(pair) >= 0) if is_known else frozenset())
    return found


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
