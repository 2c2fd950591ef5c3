"""A tensor of the recipient and the donor's tensor that stands in its place: which rule makes one of the other."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.graph.frequencies import FREQUENCIES
from onnx_ghn.inheritance.channel_map import ChannelMap
from onnx_ghn.inheritance.donor import Donor
from onnx_ghn.inheritance.ends import Ends
from onnx_ghn.inheritance.groups import group_inputs, groups_read, joined_axis
from onnx_ghn.inheritance.heads import WiderHeads, head_doubts
from onnx_ghn.inheritance.importance import Importance
from onnx_ghn.inheritance.labels import Span
from onnx_ghn.inheritance.left_out import LeftOut
from onnx_ghn.inheritance.naming import Namer, Naming
from onnx_ghn.inheritance.norms import Padding, norm_doubts, statistics_factor, variance_shift
from onnx_ghn.inheritance.roles import joined_order, roles_of
from onnx_ghn.inheritance.scaling import Scaling
from onnx_ghn.inheritance.stacks import stacked
from onnx_ghn.inheritance.structure import MATRICES, Structure
from onnx_ghn.inheritance.tracing import UNREAD, Trace
from onnx_ghn.inheritance.transfer import Recipe, Rest, Step, columns, image_channels, kernel, places, rows, scaled

__all__ = ["COPIED", "Kept", "Made", "Pairing"]


@dataclasses.dataclass(frozen=True)
class Kept:
    """A tensor that is not inherited although something stands in its place."""

    reason: str


COPIED = "copied"  # the rule of a tensor that is the donor's, element for element


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """How a tensor is made of a donor's; see `inheriting.Inherited`."""

    source: str
    rule: str
    doubt: str
    values: Callable[[], Array]
    rest: Rest | None = None


@dataclasses.dataclass(eq=False)
class _Pair:
    """One pair, and what is found of it axis by axis.

    Attributes:
        order: of the donor's axes, those of the recipient first; -1 for an axis that the donor has not.
        mine: the role of each axis.
        centred: axes of the donor over which its mean is taken off.
        is_scaled: rows are multiplied or empty, in what the model makes of the tensor by adding a number of its own.
        rest: rows that the donor has not.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    their_shape: tuple[int, ...]
    order: tuple[int, ...]
    mine: list[str]
    steps: list[Step] = dataclasses.field(default_factory=list)
    rules: list[str] = dataclasses.field(default_factory=list)
    doubts: list[str] = dataclasses.field(default_factory=list)
    centred: list[int] = dataclasses.field(default_factory=list)
    is_scaled: bool = False
    rest: Rest | None = None

    def have(self, axis: int) -> int:
        """How long the donor's axis is."""
        return self.their_shape[self.order[axis]] if self.order[axis] >= 0 else 1


class Pairing:
    """All pairs of a recipient and one donor.

    Attributes:
        doubts: why outputs are not kept exactly, beyond those of single tensors.
    """

    def __init__(
        self,
        trace: Trace,
        structure: Structure,
        donor: Donor,
        channels: ChannelMap,
        namer: Namer,
        in_files: Naming | None,
        copies: Mapping[str, str],
    ) -> None:
        self.trace, self.structure, self.donor, self.channels = trace, structure, donor, channels
        self._namer, self._in_files = namer, in_files
        self._ends = Ends(trace, structure)
        self._padding = Padding(trace, channels)
        self._heads = WiderHeads(trace, donor.trace)
        self._scaling = Scaling(trace, donor.trace, copies)
        self._importance = Importance(donor)
        self._left_out = LeftOut(trace, donor)
        self._norm_doubts: list[str] = []

    @property
    def doubts(self) -> list[str]:
        """Why outputs are not kept exactly, beyond the doubts of single tensors."""
        return [*self._scaling.doubts, *self._heads.doubts, *self._norm_doubts]

    def all(self, pairs: Mapping[str, str]) -> dict[str, Made | Kept]:
        """What becomes of every pair: matrices choose channels, in the order in which the recipient reads them."""
        found = {name: self.one(name, pairs[name]) for name in sorted(pairs, key=self._order)}
        self._scaling.other_numbers(pairs)
        for name, source in pairs.items():
            mine, theirs = self.trace.parameters[name].multiplier, self.donor.trace.parameters[source].multiplier
            if isinstance(copied := found[name], Made) and mine != theirs:
                values = functools.partial(_times, copied.values, theirs / mine, 0.0)
                found[name] = dataclasses.replace(copied, rule=f"{copied.rule}, × {theirs / mine:.4g}", values=values)
        for name, factor in self._scaling.factors.items():
            made = found.get(name)
            if isinstance(made, Made):
                values = functools.partial(_times, made.values, factor, self.trace.offsets.get(name, 0.0))
                found[name] = dataclasses.replace(made, rule=f"{made.rule}, × {factor:.4g}", values=values)
        for name, original in self._scaling.copies.items():  # of a donor that stores it once
            if name not in found and isinstance(made := found.get(original), Made):
                turned = self.trace.parameters[name].shape != self.trace.parameters[original].shape
                give = functools.partial(_turned, made.values) if turned else made.values
                found[name] = dataclasses.replace(made, rule=f"as {original}: {made.rule}", values=give)
        self._norm_doubts = [*norm_doubts(self.trace, self.channels), *head_doubts(self.channels)]
        return found

    def one(self, name: str, source: str) -> Made | Kept:
        """What becomes of one pair."""
        mine, theirs = roles_of(self.trace, name), roles_of(self.donor.trace, source)
        shape = tuple(self.trace.parameters[name].shape)
        their_shape = tuple(self.donor.trace.parameters[source].shape)
        if self.trace.uses[name].kind.startswith(UNREAD) and shape != their_shape:
            sizes = " × ".join(map(str, their_shape))
            return Kept(f"{source} is of other sizes ({sizes}), and what its operator does with them is not known")
        if self.trace.parameters[name].doubt == FREQUENCIES and shape != their_shape:
            return Kept(f"{source} holds another number of {FREQUENCIES}")
        pair = _Pair(name, source, shape, their_shape, joined_order(mine, theirs), mine)
        left = [size for axis, size in enumerate(their_shape) if axis not in pair.order and _counts(theirs[axis])]
        new = [shape[axis] for axis, place in enumerate(pair.order) if place < 0 and _counts(mine[axis])]
        if any(size > 1 for size in (*left, *new)):
            return Kept(f"{source} is stored in another form ({' × '.join(map(str, their_shape))})")
        for axis in sorted(range(len(shape)), key=lambda i: mine[i] != "in"):
            if kept := self._axis(pair, axis):
                return Kept(kept)
        if name in self.trace.grouped and {"in", "out"} <= set(mine) and self._has_all_outputs(pair, mine.index("out")):
            joined = joined_axis(self.trace, name, mine)
            if joined is not None and shape != their_shape:
                return Kept("one axis holds inputs and places of kernels, which groups are not followed through")
            axes = (mine.index("out"), mine.index("in") if joined is None else joined)
            step, doubt = group_inputs(self.trace, self.donor.trace, self.channels, name, source, axes)
            if step is None:
                return Kept(doubt)
            pair.steps.append(step)
            pair.doubts += [doubt] if doubt else []
        if name in self.trace.transposed_groups and pair.rules:
            pair.doubts.append("channels are not followed through the groups of a transposed convolution")
        return self._made(pair)

    def _made(self, pair: _Pair) -> Made | Kept:
        read = functools.partial(self.donor.values, pair.source)
        if pair.centred:
            read = functools.partial(_centre, read, tuple(pair.centred))
        if (factor_of := statistics_factor(self.trace, self.donor, pair.name, pair.source)) is not None:
            read = functools.partial(_product, read, factor_of)
            pair.rules.append("for another epsilon")
        if shift := variance_shift(self.trace, self.donor, pair.name, pair.source):
            read = functools.partial(_shifted, read, shift)
            pair.rules.append("for another epsilon")
            if float(read().min()) < 0:
                return Kept(f"the epsilon of its norm is larger than some of {pair.source} with the donor's")
        quantised = self.trace.parameters[pair.name].scale_name is not None
        if quantised and (pair.rules or self.donor.trace.parameters[pair.source].scale_name is None):
            pair.doubts.append("the file holds it in a few bits, to which its values are rounded")
        added, theirs = (t.offsets.get(n, 0.0) for t, n in ((self.trace, pair.name), (self.donor.trace, pair.source)))
        is_shifted = added != theirs or (added != 0 and pair.is_scaled)
        if added != theirs:
            pair.rules.append(f"with {theirs:g}, to which the model adds {added:g}")
        make = Recipe(
            functools.partial(_shifted, read, theirs) if is_shifted else read, pair.order, pair.shape, tuple(pair.steps)
        ).values
        rule, doubt = ", ".join(dict.fromkeys(pair.rules)), "; ".join(dict.fromkeys(pair.doubts))
        values = functools.partial(_shifted, make, -added) if is_shifted else make
        return Made(pair.source, rule or COPIED, doubt, values, pair.rest)

    def _axis(self, pair: _Pair, axis: int) -> str:
        """Find what is done along one axis; why the tensor is not inherited, "" where it is."""
        role, size, have = pair.mine[axis], pair.shape[axis], pair.have(axis)
        span = self.trace.axes[pair.name][axis]
        other = self.donor.trace.axes[pair.source][pair.order[axis]] if pair.order[axis] >= 0 else None
        if role.startswith("kernel"):
            if size != have:
                pair.steps.append(kernel(axis, size))
                pair.rules.append(f"kernel {have} → {size}")
                pair.doubts += ["a smaller kernel sees less"] if size < have else []
            return ""
        if role in ("place", "batch") and size != have:
            pair.steps.append(places(axis, size))
            pair.rules.append(f"positions {have} → {size} interpolated")
            pair.doubts.append("no table of another length is exact")
            return ""
        if role == "layer" and size != have:
            made = stacked(self.trace, self.structure, pair.name, axis, size, have)
            pair.steps.append(made.step)
            pair.rules.append(made.rule)
            pair.doubts += [made.doubt] if made.doubt else []
            pair.rest = made.rest
            return ""
        if span is None and other is None:
            return ""
        if other is not None and span is not None and (naming := self._naming(pair, axis, span)) is not None:
            return self._by_name(pair, axis, naming)
        if role == "rows" and size != have:
            return f"its {size:,} rows are not the donor's {have:,}: another vocabulary"
        if span is not None and self._ends.is_class(span) and size != have:
            return f"a classifier of {size:,} outputs, and the donor's has {have:,}"
        if span is None or other is None:
            return f"one of {pair.name} and {pair.source} has a single channel, and the other {max(size, have)}"
        if role == "in" and pair.name in self.trace.grouped and span.contracted:
            return ""  # when the outputs are known
        if role == "in" and self._ends.is_input(span):
            if size != have:
                pair.steps.append(image_channels(axis, size, have))
                pair.rules.append(f"input channels {have} → {size}")
                pair.doubts.append("exact only for grey images, or where further channels are zero")
            return ""
        return self._channels(pair, axis, span, other)

    def _naming(self, pair: _Pair, axis: int, span: Span) -> Naming | None:
        """The names of the rows of a classifier or of a table of tokens, where these are known."""
        is_table = pair.mine[axis] == "rows"
        if not (is_table or self._ends.is_class(span)):
            return None
        return self._namer.of(is_table=is_table, size=pair.shape[axis], have=pair.have(axis), in_files=self._in_files)

    def _by_name(self, pair: _Pair, axis: int, naming: Naming) -> str:
        """Take rows by their names; why the tensor is not inherited, "" where it is."""
        if (naming.index < 0).all():
            return (
                f"none of its {naming.mine:,} classes is one of the donor's {naming.theirs:,}, as both files name them"
            )
        pair.steps.append(rows(axis, naming.index))
        pair.rules.append(naming.rule)
        pair.doubts.append(naming.doubt)
        if (naming.index < 0).any():
            pair.rest = Rest(axis, naming.index < 0)
        return ""

    def _channels(self, pair: _Pair, axis: int, span: Span, other: Span) -> str:
        """Copy or share the donor's channels along one axis; why the tensor is not inherited, "" where it is."""
        name, size, have = pair.name, pair.shape[axis], pair.have(axis)
        if span.contracted and span.made and size > have and self.trace.uses[name].kind != "table":
            return "it is read transposed, too, so that copies of its channels would count several times"
        importance = None
        if self.channels.selection == "norm" and size < have:
            importance = self._importance.of(pair.source, pair.order[axis])
        is_out = pair.mine[axis] == "out" and self._has_all_outputs(pair, axis)
        groups = groups_read(self.trace, self.donor.trace, self.channels, name, pair.source) if is_out else None
        places, their_places = self.trace.places.get(name, 1), self.donor.trace.places.get(pair.source, 1)
        is_map = places > 1 or self.trace.uses[name].kind not in MATRICES
        chosen = self.channels.axis(span, other, importance, groups, is_map=is_map)
        pair.doubts += [chosen.obstacle] if chosen.obstacle else []
        if size > have:
            how = "padded" if self._padding.applies(span, other) else "copied"
            pair.rules.append(f"{pair.mine[axis]} {have} → {size} {how}")
        elif size < have:
            pair.rules.append(f"{pair.mine[axis]} {have} → {size} selected")
            pair.doubts.append("channels of the donor are left out")
        if span.contracted and pair.mine[axis] == "in":
            divides, doubt = self._scaling.divides(name, pair.source, chosen, have)
            is_alike = places == their_places
            pair.steps.append(columns(axis, chosen.index, name, divides=divides, are_copies=is_alike))
            if (times := self._left_out.factor(pair.source, pair.order[axis], other, chosen.index)) != 1:
                pair.steps.append(scaled(times))
                pair.rules.append(f"× {times:.3g} for inputs that are left out")
            pair.doubts += [doubt] if doubt else []
            if not is_alike:
                pair.doubts.append(f"the map that it reads has {places} places, and the donor's {their_places}")
            if size >= have and (chosen.counts(have) == 0).any():
                pair.doubts.append("not every channel of the donor is read")
            return ""
        if span.contracted or self._scaling.is_tied(name):  # a table that is the weight of a layer, too
            self._scaling.divides(name, pair.source, chosen, have)
        if self._padding.centres(name, span, other):
            pair.centred.append(pair.order[axis])
        index, factor, told = self._heads.rows(name, pair.source, span, chosen)
        pair.rules += [told] if told else []
        empty = 0.0 if told else self._empty(name)
        padded = self._padding.factor(name, span, other)
        if padded != 1:
            factor = np.where(index >= 0, padded, 1.0)
            pair.rules.append(f"padded with zeros, × √({have}/{size})")
            pair.doubts.append("its epsilon would have to be smaller, too")
        pair.is_scaled = pair.is_scaled or factor is not None or bool((index < 0).any())
        pair.steps.append(rows(axis, index, factor, empty))
        return ""

    def _has_all_outputs(self, pair: _Pair, axis: int) -> bool:
        """Whether the outputs of a grouped convolution lie along an axis; Keras stores them as inputs × multiplier."""
        mine, theirs = self.trace.grouped.get(pair.name), self.donor.trace.grouped.get(pair.source)
        if mine is None or theirs is None:
            return False
        return pair.shape[axis] == len(mine.outputs) and pair.have(axis) == len(theirs.outputs)

    def _order(self, name: str) -> tuple[bool, int, str]:
        """Matrices choose channels before the vectors that go with them: one may hold the biases of several."""
        use = self.trace.uses[name]
        return use.kind not in MATRICES, use.op, name

    def _empty(self, name: str) -> float:
        """What a channel that is zero begins with: what follows it stays alive."""
        return 1.0 if self.trace.uses[name].kind in ("norm_scale", "norm_variance") else 0.0


def _counts(role: str) -> bool:
    """Whether an axis that only one of two tensors has sets them apart; kernels are cut, or grow."""
    return not role.startswith("kernel")


def _times(make: Callable[[], Array], factor: float, offset: float) -> Array:
    """What, with the offset that the model adds, is a multiple of what it was."""
    made: Array = (make() + np.float32(offset)) * np.float32(factor) - np.float32(offset)
    return made


def _turned(make: Callable[[], Array]) -> Array:
    made: Array = make().T
    return made


def _product(make: Callable[[], Array], factor: Callable[[], Array]) -> Array:
    values = make()
    made: Array = (values * factor().reshape(values.shape)).astype(values.dtype)
    return made


def _shifted(make: Callable[[], Array], shift: float) -> Array:
    values = make()
    made: Array = values + np.asarray(shift, values.dtype)
    return made


def _centre(make: Callable[[], Array], axes: tuple[int, ...]) -> Array:
    values = make()
    made: Array = values - values.mean(axis=axes, keepdims=True)
    return made
