"""Which channel of a donor each channel of the recipient copies: one choice for each channel group.

The choice is made where a group is first written, by the parts that the models cut it into (heads, groups, gates): each
part is grown or thinned by itself, so that whole heads and whole groups are taken. Whatever is tied to that group, be
it behind a concatenation, a split or a channel shuffle, follows by its labels; no fixed pattern is right everywhere.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.inheritance.labels import Ints, Span
from onnx_ghn.inheritance.tracing import Trace
from onnx_ghn.selections import Selection

__all__ = ["AxisMap", "ChannelMap", "factors_of", "spread"]

_UNKNOWN = -2


@dataclasses.dataclass(frozen=True, eq=False)
class AxisMap:
    """For each channel of an axis, the donor's position that it copies; -1 for zeros.

    Attributes:
        obstacle: why the choice does not follow that of the channel group; "" where it does.
    """

    index: Ints
    obstacle: str = ""

    def counts(self, size: int) -> Ints:
        """How often each of the donor's positions is copied, (size,)."""
        return np.bincount(self.index[self.index >= 0], minlength=size)


class ChannelMap:
    """The choices for one recipient and one donor.

    Args:
        mine, theirs: what following the channels of the two found.
        selection: which channels are taken where there are fewer: evenly spaced ones, the first, or those with the
            largest weights.
    """

    def __init__(self, mine: Trace, theirs: Trace, selection: Selection = "uniform") -> None:
        self.mine, self.theirs, self.selection = mine, theirs, selection
        #: First labels of groups that grow by zeros where they cannot be copied equally often.
        self.padded: set[int] = set()
        self._target = np.full(mine.labels.count + 1, _UNKNOWN, np.int64)

    def target(self, labels: Ints) -> Ints:
        """The donor's united labels for the recipient's; -1 for zeros, -2 where nothing is chosen."""
        return self._target[self.mine.labels.roots(labels)]

    def chosen(self, labels: Ints) -> Ints:
        """The donor's united labels for those of the recipient's that something is chosen for; -1 for zeros."""
        target = self.target(labels)
        known: Ints = target[target != _UNKNOWN]
        return known

    def axis(
        self,
        mine: Span,
        theirs: Span,
        importance: Array | None = None,
        groups: tuple[Ints, int] | None = None,
        *,
        is_map: bool = False,
    ) -> AxisMap:
        """The donor's positions for the channels of an axis; what was not chosen before is chosen here.

        Args:
            importance: of the donor's positions, for the selection by norm.
            groups: of the outputs of a grouped convolution: for each group, that of the donor whose inputs it reads,
                and how many groups the donor has.
            is_map: whether a channel that stands there several times does so for the places of a map. Otherwise it is
                the value of several heads, which grow by the pattern of their queries.
        """
        own, other = self.mine.labels.roots(mine.labels), self.theirs.labels.roots(theirs.labels)
        pattern = spread(*_as_products(mine, theirs), self.selection, importance)
        if groups is not None:
            pattern = _in_groups(pattern, *groups, theirs.size, self.selection, importance)
        if int(own[0]) in self.padded and mine.size > theirs.size and mine.size % theirs.size:
            pattern = np.where(np.arange(mine.size) < theirs.size, np.arange(mine.size), -1)
        target = self._target[own]
        unknown = target == _UNKNOWN
        if unknown.any():
            # Labels that occur several times in the axis (gates, rotary pairs) take what their first occurrence takes.
            where = np.flatnonzero(unknown)
            _, first = np.unique(own[where], return_index=True)
            taken = self._beside_known(own, target, other, pattern)[where[first]]
            self._target[own[where[first]]] = np.where(taken < 0, -1, other[taken])
            target = self._target[own]
        ordered = bool(self.mine.labels.orders(mine.labels).any() or self.theirs.labels.orders(theirs.labels).any())
        # Of a channel that stands several times in an axis (the places of a flattened map) the n-th copies the n-th.
        repeats = is_map and not mine.head and len(np.unique(own)) < len(own)
        if not ordered and not repeats and (np.where(pattern < 0, -1, other[pattern]) == target).all():
            return AxisMap(pattern)
        index = self._looked_up(mine.labels, own, target, theirs.labels, other)
        if index is None:
            return AxisMap(pattern, "its channels are tied otherwise than those of the donor")
        return AxisMap(index)

    def _beside_known(self, own: Ints, target: Ints, other: Ints, pattern: Ints) -> Ints:
        """A pattern that takes what is left of the donor's axis for what nothing is chosen for beside channels that
        something is chosen for, where that is as much: inputs of the model that are joined to wider features.
        """
        is_unknown = target == _UNKNOWN
        left = np.flatnonzero(~np.isin(other, target[~is_unknown]))
        if is_unknown.all() or len(left) != int(is_unknown.sum()):
            return pattern
        taken = pattern.copy()
        taken[is_unknown] = left
        return taken

    def positions(self, labels: Ints, theirs: Ints) -> Ints | None:
        """The positions among the donor's labels that the recipient's copy; None where one of them is not there."""
        own, other = self.mine.labels.roots(labels), self.theirs.labels.roots(theirs)
        target = self._target[own]
        if (target == _UNKNOWN).any():
            return None
        return self._looked_up(labels, own, target, theirs, other)

    def _looked_up(self, labels: Ints, own: Ints, target: Ints, their_labels: Ints, other: Ints) -> Ints | None:
        """Positions of the chosen labels: the n-th occurrence of a label copies the donor's n-th."""
        places: dict[int, list[int]] = {}
        for position in np.lexsort((np.arange(len(other)), self.theirs.labels.orders(their_labels))):
            places.setdefault(int(other[position]), []).append(int(position))
        times: dict[int, int] = {}
        for label in own.tolist():
            times[label] = times.get(label, 0) + 1
        seen: dict[int, int] = {}
        index = np.full(len(own), -1, np.int64)
        for i in np.lexsort((np.arange(len(own)), self.mine.labels.orders(labels))):
            label, wanted = int(own[i]), int(target[i])
            nth = seen.get(label, 0)
            seen[label] = nth + 1
            if wanted == -1:
                continue
            found = places.get(wanted)
            if found is None:
                return None
            index[i] = found[nth * len(found) // times[label] if times[label] != len(found) else nth]
        return index


def _as_products(mine: Span, theirs: Span) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two axes as products of as many parts; heads of attention stand for heads, whatever their widths."""
    if not mine.head or not theirs.head:
        return _paired(factors_of(mine.size, mine.strides), factors_of(theirs.size, theirs.strides))
    outer, inner = zip(*(_around_heads(span) for span in (mine, theirs)), strict=True)
    (a, b), (c, d) = _paired(*outer), _paired(*inner)
    return (*a, *c), (*b, *d)


def _around_heads(span: Span) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The heads of an axis and the dimensions of one head, each as a product of its parts."""
    outside = {stride // span.head for stride in span.strides if stride > span.head and stride % span.head == 0}
    inside = {stride for stride in span.strides if stride < span.head}
    return factors_of(span.size // span.head, outside), factors_of(span.head, inside)


def _in_groups(
    pattern: Ints, groups: Ints, n_groups: int, size: int, selection: Selection, importance: Array | None
) -> Ints:
    """A pattern that takes, in each group of outputs, outputs of the donor's group whose inputs are read there.

    Args:
        size: of the donor's axis.
    """
    new, old = len(pattern) // len(groups), size // n_groups
    if (pattern // old == groups.repeat(new)).all():
        return pattern
    weights = None if importance is None else importance.reshape(n_groups, old)
    parts = [group * old + _part(new, old, selection, None if weights is None else weights[group]) for group in groups]
    return np.concatenate(parts)


def factors_of(size: int, strides: set[int]) -> tuple[int, ...]:
    """An axis as a product of the parts that it is cut into, the outermost first; 1 for a part that is the whole."""
    factors = []
    left = size
    for stride in sorted(strides, reverse=True):
        if left % stride == 0 and (stride < left or stride == size):
            factors.append(left // stride)
            left = stride
    return (*factors, left)


def spread(
    a: tuple[int, ...], b: tuple[int, ...], selection: Selection = "uniform", importance: Array | None = None
) -> Ints:
    """For each position of an axis, the donor's: each part is grown or thinned by itself.

    Args:
        a, b: the axes, the donor's last, as products of as many parts.
        importance: of the donor's positions.
    """
    size = math.prod(b)
    weights = None if importance is None or importance.size != size else importance.reshape(b)
    index = np.zeros((1,), np.int64)
    for i, (new, old) in enumerate(zip(a, b, strict=True)):
        each = None
        if weights is not None:
            each = weights.sum(axis=tuple(axis for axis in range(len(b)) if axis != i))
        index = (index[:, None] * old + _part(new, old, selection, each)[None, :]).reshape(-1)
    return index


def _part(new: int, old: int, selection: Selection, importance: Array | None) -> Ints:
    if new >= old or selection == "uniform":
        return np.arange(new, dtype=np.int64) * old // new
    if selection == "norm" and importance is not None:
        return np.sort(np.argsort(-importance, kind="stable")[:new]).astype(np.int64)
    return np.arange(new, dtype=np.int64)


def _paired(mine: tuple[int, ...], theirs: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Products of as many parts, so that they are most alike: a part that is the whole may count as none."""
    plain = [dict.fromkeys((factors, tuple(n for n in factors if n > 1) or (1,))) for factors in (mine, theirs)]
    joined = [_joined(*option) for option in itertools.product(*plain)]
    # Of what is equally alike, that with most parts: one head grows to two, and not each of its channels.
    return min(joined, key=lambda pair: (_apart(*pair)[0], -len(pair[0]), _apart(*pair)))


def _apart(mine: tuple[int, ...], theirs: tuple[int, ...]) -> tuple[float, ...]:
    """How far products of as many parts are apart, all of them first; then part by part, the innermost first, since
    heads that keep their width stay whole.
    """
    found = [round(abs(math.log(n / m)), 9) for n, m in zip(mine, theirs, strict=True)]
    return (round(sum(found), 9), *found[::-1])


def _joined(mine: tuple[int, ...], theirs: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Products of as many parts: those of the finer one are joined where the parts then are most alike."""
    if len(mine) == len(theirs):
        return mine, theirs
    if len(mine) > len(theirs):
        b, a = _joined(theirs, mine)
        return a, b
    if len(theirs) > 12:
        return (math.prod(mine),), (math.prod(theirs),)
    found = []
    for cuts in itertools.combinations(range(1, len(theirs)), len(mine) - 1):
        ends = (0, *cuts, len(theirs))
        found.append(tuple(math.prod(theirs[i:j]) for i, j in itertools.pairwise(ends)))
    return mine, min(found, key=lambda factors: _apart(mine, factors))
