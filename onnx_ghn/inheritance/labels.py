"""Labels of channels: numbers that say which elements of which axes are one and the same channel.

Each axis of each stored tensor starts with labels of its own, a *span*. Where an operator makes two axes one (a sum, a
norm's scale beside its channels, the inputs of a weight beside what feeds them) their labels are united, element by
element; where it moves channels (a transpose, a shuffle, a concatenation) the labels move with them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

__all__ = ["Ints", "Labels", "Span", "repeats"]

Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(eq=False)
class Span:
    """The labels of one axis of a stored tensor, first to behind the last.

    Attributes:
        name, axis: of the stored tensor; "" and -1 for channels that no tensor makes.
        start, size: its labels are start to start + size - 1.
        role: what the axis is to the operator that reads it: out, in, kernel0 ..., rows, place, channel, direction.
        contracted: summed over where it is read, so that copies of a channel have to share what it gave.
        made: read without being summed over.
        strides: lengths of the parts that the model cuts it into (heads, groups, gates), besides 1; its size, where
            they are one part alone.
        head: how wide the heads of attention are that it is made of; 0 where it is made of none.
    """

    name: str
    axis: int
    start: int
    size: int
    role: str = ""
    contracted: bool = False
    made: bool = False
    strides: set[int] = dataclasses.field(default_factory=set)
    head: int = 0

    @property
    def labels(self) -> Ints:
        """(size,)"""
        return np.arange(self.start, self.start + self.size, dtype=np.int64)


class Labels:
    """All labels of a model, and which of them are one."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._starts: list[int] = []
        self._parent: Ints = np.zeros(1024, np.int64)
        self._order: Ints = np.zeros(1024, np.int64)
        self._count = 0

    def new(self, size: int, name: str = "", axis: int = -1) -> Span:
        """A span of labels that are united with no others yet."""
        start, end = self._count, self._count + size
        if end > len(self._parent):
            room = max(end, 2 * len(self._parent))
            self._parent = np.concatenate([self._parent, np.zeros(room - len(self._parent), np.int64)])
            self._order = np.concatenate([self._order, np.zeros(room - len(self._order), np.int64)])
        self._parent[start:end] = np.arange(start, end)
        self._count = end
        span = Span(name, axis, start, size)
        self.spans.append(span)
        self._starts.append(start)
        return span

    @property
    def count(self) -> int:
        """Number of labels."""
        return self._count

    def roots(self, labels: Ints) -> Ints:
        """The first of the labels that each is one with."""
        found = labels
        while True:
            above = self._parent[found]
            if (above == found).all():
                break
            found = self._parent[above]
        self._parent[labels.reshape(-1)] = found.reshape(-1)
        return found

    def root(self, labels: Ints) -> int:
        """The first of the labels that the first of these is one with: it stands for their channel group."""
        return int(self.roots(labels[:1])[0])

    def unite(self, first: Ints, second: Ints) -> None:
        """Make labels one, element by element of two arrays that broadcast."""
        a, b = (array.reshape(-1) for array in np.broadcast_arrays(first, second))
        while True:
            a, b = self.roots(a), self.roots(b)
            low, high = np.minimum(a, b), np.maximum(a, b)
            apart = low != high
            if not apart.any():
                return
            self._parent[high[apart]] = low[apart]
            a, b = a[apart], b[apart]

    def span_of(self, label: int) -> Span:
        """The span that a label was made in."""
        return self.spans[int(np.searchsorted(self._starts, label, side="right")) - 1]

    def spans_of(self, labels: Ints) -> list[Span]:
        """The spans that labels were made in, in the order in which these were made."""
        places = np.unique(np.searchsorted(self._starts, labels, side="right")) - 1
        return [self.spans[int(place)] for place in places]

    def part_of(self, labels: Ints) -> tuple[Span, int] | None:
        """The span that labels are a whole run of, and where in it the run begins; None where they are no run."""
        flat = labels.reshape(-1)
        if not len(flat):
            return None
        span = self.span_of(int(flat[0]))
        offset = int(flat[0]) - span.start
        if offset + len(flat) > span.size or not (np.diff(flat) == 1).all():
            return None
        return span, offset

    def cut(self, labels: Ints, stride: int) -> None:
        """Note that channels are read in parts of that length."""
        flat = labels.reshape(-1)
        found = self.part_of(flat)
        if found is None:  # channels that several heads share stand there once for each
            flat = np.unique(flat)
            found = self.part_of(flat)
        if found is None or stride > len(flat):
            return
        span, offset = found
        for length in (stride, len(flat)):
            if 1 < length < span.size and span.size % length == 0 and offset % length == 0:
                span.strides.add(length)
        if 1 < stride == span.size:  # one part, where others have several
            span.strides.add(stride)

    def rank(self, labels: Ints, order: Ints) -> None:
        """Note in which order parts of an axis come to their operator, whatever their order in the file (gates)."""
        self._order[labels.reshape(-1)] = np.broadcast_to(order, labels.shape).reshape(-1)

    def orders(self, labels: Ints) -> Ints:
        """What `rank` noted."""
        return self._order[labels]


def repeats(labels: Ints, width: int) -> int:
    """How many heads of that width in a row are the same: so many queries share a key or a value."""
    heads = labels.reshape(-1, width)[:, 0]
    changes = np.flatnonzero(np.diff(heads))
    return int(changes[0]) + 1 if len(changes) else len(heads)
