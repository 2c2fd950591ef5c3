"""A tensor of the recipient and the donor's tensor that stands in its place: which rule makes one of the other."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.inheritance.channel_map import AxisMap, ChannelMap
from onnx_ghn.inheritance.donor import Donor
from onnx_ghn.inheritance.labels import Ints, Span
from onnx_ghn.inheritance.structure import MATRICES, Structure
from onnx_ghn.inheritance.tracing import Trace
from onnx_ghn.inheritance.transfer import Recipe, Step, columns, columns_in_groups, joined_order, kernel, places, rows

__all__ = ["Kept", "Made", "Pairing"]

_ROLES: Mapping[str, tuple[str, ...]] = {
    "conv": ("out", "in", "kernel0", "kernel1", "kernel2"),
    "depthwise": ("out", "in", "kernel0", "kernel1", "kernel2"),
    "grouped": ("out", "in", "kernel0", "kernel1", "kernel2"),
    "transposed": ("in", "out", "kernel0", "kernel1", "kernel2"),
    "linear": ("out", "in", "kernel0", "kernel1", "kernel2"),
    "table": ("rows", "out"),
    "place": ("batch", "place", "channel"),
    "recurrent_in": ("direction", "out", "in"),
    "recurrent_state": ("direction", "out", "in"),
    "recurrent_bias": ("direction", "out"),
}


@dataclasses.dataclass(frozen=True)
class Kept:
    """A tensor that is not inherited although something stands in its place."""

    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """How a tensor is made of a donor's; see `inheriting.Inherited`."""

    source: str
    rule: str
    doubt: str
    values: Callable[[], Array]


class Pairing:
    """All pairs of a recipient and one donor.

    Attributes:
        doubts: why outputs are not kept exactly, beyond those of single tensors.
    """

    def __init__(self, trace: Trace, structure: Structure, donor: Donor, channels: ChannelMap) -> None:
        self.trace, self.structure, self.donor, self.channels = trace, structure, donor, channels
        self.doubts: list[str] = []
        self._last = {p.name for block in structure.blocks for p in block.pieces if p.is_last and p.kind in MATRICES}
        self._first = {p.name for block in structure.blocks for p in block.pieces if p.is_first}
        self._written = self._writers()
        self._classes = self._class_labels()
        self._factors: dict[str, float] = {}
        self._takes_mean: set[int] = set()
        self._pad()

    def all(self, pairs: Mapping[str, str]) -> dict[str, Made | Kept]:
        """What becomes of every pair, in the order in which the recipient reads its tensors."""
        found: dict[str, Made | Kept] = {}
        order = sorted(pairs, key=self._order)
        for name in order:
            found[name] = self.one(name, pairs[name])
        self._other_numbers(pairs)
        for name, factor in self._factors.items():
            made = found.get(name)
            if isinstance(made, Made):
                rule = f"{made.rule}, × {factor:.4g}"
                found[name] = dataclasses.replace(
                    made,
                    rule=rule,
                    values=functools.partial(_times, made.values, factor, self.trace.offsets.get(name, 0.0)),
                )
        self._check_norms()
        return found

    def one(self, name: str, source: str) -> Made | Kept:
        """What becomes of one pair."""
        mine, theirs = self._roles(self.trace, name), self._roles(self.donor.trace, source)
        shape = self.trace.parameters[name].shape
        their_shape = self.donor.trace.parameters[source].shape
        order = joined_order(mine, theirs)
        for axis, size in enumerate(their_shape):
            if axis not in order and size > 1 and not theirs[axis].startswith("kernel"):
                return Kept(f"{source} is stored in another form ({' × '.join(map(str, their_shape))})")
        for axis, place in enumerate(order):
            if place < 0 and shape[axis] > 1 and not mine[axis].startswith("kernel"):
                return Kept(f"{source} is stored in another form ({' × '.join(map(str, their_shape))})")
        spans, their_spans = self.trace.axes[name], self.donor.trace.axes[source]
        steps: list[Step] = []
        rules: list[str] = []
        doubts: list[str] = []
        grouped = self.trace.grouped.get(name)
        centred: list[int] = []
        importance: Array | None = None
        for axis in sorted(range(len(shape)), key=lambda i: mine[i] != "in"):
            place = order[axis]
            have = their_shape[place] if place >= 0 else 1
            span, other = spans[axis], their_spans[place] if place >= 0 else None
            if mine[axis].startswith("kernel"):
                if shape[axis] != have:
                    steps.append(kernel(axis, shape[axis]))
                    rules.append(f"kernel {have} → {shape[axis]}")
                    if shape[axis] < have:
                        doubts.append("a smaller kernel sees less")
                continue
            if mine[axis] in ("place", "batch") and shape[axis] != have:
                steps.append(places(axis, shape[axis]))
                rules.append(f"positions {have} → {shape[axis]} interpolated")
                doubts.append("no table of another length is exact")
                continue
            if span is None and other is None:
                continue
            if mine[axis] == "rows" and shape[axis] != have:
                return Kept(f"its {shape[axis]:,} rows are not the donor's {have:,}: another vocabulary")
            if span is not None and self._is_class(span) and shape[axis] != have:
                return Kept(f"a classifier of {shape[axis]:,} outputs, and the donor's has {have:,}")
            if span is None or other is None:
                return Kept(f"one of {name} and {source} has a single channel, and the other {max(shape[axis], have)}")
            if mine[axis] == "in" and grouped is not None:
                continue  # below, when the outputs are known
            if mine[axis] == "in" and self._is_input(span):
                steps.append(_image(axis, shape[axis], have))
                if shape[axis] != have:
                    rules.append(f"input channels {have} → {shape[axis]}")
                    doubts.append("exact only for grey images, or where further channels are zero")
                continue
            if self.channels.selection == "norm" and shape[axis] < have and importance is None:
                importance = self._norms(source, place)
            chosen = self.channels.axis(span, other, importance)
            if chosen.obstacle:
                doubts.append(chosen.obstacle)
            if shape[axis] > have:
                how = "padded" if self._padding(span, other) else "copied"
                rules.append(f"{mine[axis]} {have} → {shape[axis]} {how}")
            elif shape[axis] < have:
                rules.append(f"{mine[axis]} {have} → {shape[axis]} selected")
                doubts.append("channels of the donor are left out")
            if span.contracted and mine[axis] == "in":
                divides, doubt = self._divides(name, source, chosen, have)
                steps.append(columns(axis, chosen.index, name, divides=divides))
                if doubt:
                    doubts.append(doubt)
                if (chosen.counts(have) == 0).any() and shape[axis] >= have:
                    doubts.append("not every channel of the donor is read")
            else:
                if span.contracted:  # a table that is the weight of a layer, too
                    self._divides(name, source, chosen, have)
                if self._is_centred(name, span, other):
                    centred.append(place)
                index, factor, told = self._heads(name, source, span, chosen)
                if told:
                    rules.append(told)
                padded = self._padded_factor(name, span, other)
                if padded != 1:
                    factor = np.where(index >= 0, padded, 1.0)
                    if self.trace.offsets.get(name):
                        return Kept("a norm over zeros whose scale the model adds a number to")
                    rules.append(f"padded with zeros, × √({have}/{shape[axis]})")
                    doubts.append("its epsilon would have to be smaller, too")
                steps.append(rows(axis, index, factor, self._empty(name)))
        if grouped is not None and "in" in mine and shape[mine.index("in")] > 1:
            out = mine.index("out")
            step, doubt = self._grouped(name, source, spans[out], order, mine.index("in"), out)
            if step is None:
                return Kept(doubt)
            steps.append(step)
            if doubt:
                doubts.append(doubt)
        if name in self.trace.transposed_groups and rules:
            doubts.append("channels are not followed through the groups of a transposed convolution")
        read = functools.partial(self.donor.values, source)
        if centred:
            read = functools.partial(_centre, read, tuple(centred))
        if (factor_of := self._statistics_factor(name, source)) is not None:
            read = functools.partial(_product, read, factor_of)
            rules.append("for another epsilon")
        recipe = Recipe(read, order, tuple(shape), tuple(steps))
        return Made(
            source, ", ".join(dict.fromkeys(rules)) or "copied", "; ".join(dict.fromkeys(doubts)), recipe.values
        )

    def _order(self, name: str) -> tuple[int, bool, str]:
        """Operators in their order; a matrix chooses channels before the vectors that go with it."""
        use = self.trace.uses[name]
        return use.op, use.kind not in MATRICES, name

    def _other_numbers(self, pairs: Mapping[str, str]) -> None:
        """Where the models multiply by other numbers (√width behind an embedding), weights make up for it.

        The scale of attention is none of these: queries take that.
        """
        of_heads = {
            name
            for trace in (self.trace, self.donor.trace)
            for heads in trace.heads
            for name in (*heads.left_writers, *heads.right_writers)
        }
        for writers, number in self.trace.scaled.items():
            theirs = self.donor.trace.scaled.get(tuple(pairs.get(name, "") for name in writers))
            if theirs is None or set(writers) & of_heads or math.isclose(number, theirs, rel_tol=1e-6):
                continue
            factor = theirs / number
            for name in writers:
                self._factors[name] = self._factors.get(name, 1.0) * factor
                if self._is_tied(name):  # what reads it as a layer's weight takes it back
                    for other in self.trace.fed_by.get(name, ()):
                        self._factors[other] = self._factors.get(other, 1.0) / factor

    # -- single questions --------------------------------------------------------------------------------

    def _roles(self, trace: Trace, name: str) -> list[str]:
        """The role of each stored axis."""
        spans = trace.axes.get(name, ())
        kind = trace.uses[name].kind
        roles = [span.role if span is not None else "" for span in spans]
        free = [role for role in _ROLES.get(kind, ("channel",) * max(1, len(roles))) if role not in roles]
        if kind == "place" and "place" not in roles and len(spans) < 3:
            free = ["batch", *free] if "channel" in roles else free
        for i, role in enumerate(roles):
            if not role:
                roles[i] = free.pop(0) if free else f"other{i}"
        if kind in ("vector", "norm_scale", "norm_shift", "norm_mean", "norm_variance", "factor"):
            roles = [
                "channel" if span is not None and span.role == "channel" else f"other{len(spans) - i}"
                for i, span in enumerate(spans)
            ]
        return roles

    def _writers(self) -> dict[int, int]:
        """By the first label of a channel group: how many weights write it."""
        written: dict[int, int] = {}
        for name, use in self.trace.uses.items():
            if use.kind not in MATRICES and use.kind != "place":
                continue
            for span in self.trace.axes[name]:
                if span is not None and span.made and span.role in ("out", "rows", "channel"):
                    root = int(self.trace.labels.roots(span.labels[:1])[0])
                    written[root] = written.get(root, 0) + 1
        return written

    def _class_labels(self) -> set[int]:
        """First labels of the channels that a model's outputs are, where one weight alone writes them."""
        found = set()
        for name in self._last:
            for span in self.trace.axes[name]:
                if span is not None and span.role in ("out", "rows") and span.made:
                    root = int(self.trace.labels.roots(span.labels[:1])[0])
                    if self._written.get(root, 0) == 1:
                        found.add(root)
        return found

    def _is_class(self, span: Span) -> bool:
        return int(self.trace.labels.roots(span.labels[:1])[0]) in self._classes

    def _is_input(self, span: Span) -> bool:
        """Whether channels are those of the model's input, which nothing writes."""
        roots = self.trace.labels.roots(span.labels)
        return bool(span.name in self._first and int(roots[0]) == span.start)

    def _norms(self, source: str, axis: int) -> Array:
        """How large the donor's weights of each channel are."""
        values = self.donor.values(source).astype(np.float64)
        norms: Array = np.sqrt((values**2).sum(axis=tuple(i for i in range(values.ndim) if i != axis)))
        return norms

    def _divides(self, name: str, source: str, chosen: AxisMap, have: int) -> tuple[bool, str]:
        """Whether copies of inputs share what their original gave, and a doubt; else something else is scaled.

        What feeds a table that is a layer's weight, too, is divided; a weight that the model standardises is not
        divided, as that would be standardised away, but its gain is.
        """
        counts = chosen.counts(have)
        most = float(counts.max(initial=0))
        if name in self.trace.standardised:
            if most <= 1:
                return False, ""
            gain, theirs = self.trace.gains.get(name), self.donor.trace.gains.get(source)
            if gain is None or theirs is None or counts.min() != most or not gain[1]:
                return False, "the model standardises the weight, so what follows it has another scale"
            self._factors[gain[0]] = theirs[1] / (gain[1] * most)
            return False, ""
        if not self._is_tied(name) or most <= 1:
            return True, ""
        for writer in self.trace.fed_by.get(name, ()):
            self._factors[writer] = 1 / most
        if counts.min() != most:
            self.doubts.append(f"{name} is tied, and its channels are not copied equally often")
        if not self.trace.fed_by.get(name):
            self.doubts.append(f"{name} is tied, and nothing before it can be scaled")
        return False, ""

    def _is_tied(self, name: str) -> bool:
        """Whether a table is the weight of a layer, too."""
        return any(span is not None and span.contracted and span.made for span in self.trace.axes[name])

    def _empty(self, name: str) -> float:
        """What a channel that is zero begins with: what follows it stays alive."""
        return 1.0 if self.trace.uses[name].kind in ("norm_scale", "norm_variance") else 0.0

    def _heads(self, name: str, source: str, span: Span, chosen: AxisMap) -> tuple[Ints, Array | None, str]:
        """The rows of queries whose heads become wider: further dimensions are zero, the others × √(new / old).

        Keys take copies, so that both sides learn. With a norm of the queries the factor comes about by itself.
        """
        index = chosen.index
        is_matrix = self.trace.uses[name].kind in MATRICES
        own = self.trace.labels.roots(span.labels)
        for heads in self.trace.heads:
            mine = self.trace.labels.roots(heads.left)
            here = np.isin(own, mine)
            if not here.any() or len(mine) == 0:
                continue
            width = self._donor_width(source, chosen)
            if width is None or width >= heads.width:
                continue
            place = np.full(len(own), -1, np.int64)
            at = np.flatnonzero(here)
            place[at] = np.arange(len(at)) // heads.width  # head of each row
            new = index.copy()
            seen: set[tuple[int, int]] = set()
            for i in at:
                key = (int(place[i]), int(index[i]))
                if key in seen:
                    new[i] = -1
                seen.add(key)
            kinds = {self.trace.uses[w].kind for w in heads.left_writers if w in self.trace.uses}
            if name not in heads.left_writers or "norm_scale" in kinds:
                scaled = None
                if not heads.left_writers:
                    self.doubts.append(f"heads grow from {width} to {heads.width}, and nothing scales the queries")
                return new if is_matrix or name in heads.left_writers else index, scaled, "queries padded with zeros"
            factor = np.where(here, math.sqrt(heads.width / width), 1.0)
            return new, factor, f"queries padded with zeros, × √({heads.width}/{width})"
        return index, None, ""

    def _donor_width(self, source: str, chosen: AxisMap) -> int | None:
        """The width of the donor's heads that a tensor writes, None where it writes none."""
        spans = [span for span in self.donor.trace.axes[source] if span is not None and span.made]
        for heads in self.donor.trace.heads:
            labels = self.donor.trace.labels.roots(heads.left)
            if any(np.isin(self.donor.trace.labels.roots(span.labels), labels).any() for span in spans):
                return heads.width
        return None

    def _grouped(
        self, name: str, source: str, span: Span | None, order: tuple[int, ...], axis_in: int, axis_out: int
    ) -> tuple[Step | None, str]:
        """The inputs of a grouped convolution."""
        mine, theirs = self.trace.grouped[name], self.donor.trace.grouped.get(source)
        if theirs is None or span is None:
            return None, f"{source} is not cut into groups as {name} is"
        made = self.channels.positions(mine.outputs, theirs.outputs)
        read = self.channels.positions(mine.inputs, theirs.inputs)
        n_out, n_in = len(mine.outputs) // mine.groups, len(mine.inputs) // mine.groups
        their_out, their_in = len(theirs.outputs) // theirs.groups, len(theirs.inputs) // theirs.groups
        table = np.zeros((len(mine.outputs), n_in), np.int64)
        missed = 0
        for output in range(len(mine.outputs)):
            group = output // n_out
            target = int(made[output]) // their_out if made is not None else 0
            if read is None:
                table[output] = np.arange(n_in) * their_in // n_in
                missed += 1
                continue
            inputs = read[group * n_in : (group + 1) * n_in] - target * their_in
            outside = (inputs < 0) | (inputs >= their_in)
            missed += int(outside.any())
            table[output] = np.where(outside, np.arange(n_in) * their_in // n_in, inputs)
        counts = np.stack([np.bincount(row, minlength=their_in)[row] for row in table])
        doubt = f"{missed} outputs read channels of other groups than the donor's" if missed else ""
        return columns_in_groups(axis_out, axis_in, table, counts), doubt

    def _statistics_factor(self, name: str, source: str) -> Callable[[], Array] | None:
        """√((variance + new epsilon) / (variance + the donor's)) for the scale of a batch norm of another epsilon."""
        mine, theirs = self.trace.batch_norms.get(name), self.donor.trace.batch_norms.get(source)
        if mine is None or theirs is None or mine[1] == theirs[1] or theirs[0] not in self.donor.trace.parameters:
            return None

        def factor() -> Array:
            variance = self.donor.values(theirs[0]).astype(np.float64)
            made: Array = np.sqrt((variance + mine[1]) / (variance + theirs[1]))
            return made

        return factor

    # -- zero padding before norms -----------------------------------------------------------------------

    def _pad(self) -> None:
        """Find the streams that norms average over, which grow by zeros where they cannot be copied equally often.

        Zeros are exact where what is written there has mean zero over the channels (a norm takes that mean off in any
        case), so not where outputs of norms that take it off are added to branches as they are.
        """
        for labels, names, _, takes_mean in self.trace.norms:
            root = int(self.trace.labels.roots(labels[:1])[0])
            if len(np.unique(self.trace.labels.roots(labels))) < len(labels):
                continue
            if not (takes_mean and set(names) & self.trace.skipped_norms):
                self.channels.padded.add(root)
                if takes_mean:
                    self._takes_mean.add(root)
        for labels, names, _, takes_mean in self.trace.norms:
            root = int(self.trace.labels.roots(labels[:1])[0])
            if takes_mean and set(names) & self.trace.skipped_norms:
                self.channels.padded.discard(root)

    def _padding(self, span: Span, other: Span) -> bool:
        """Whether an axis grows by zeros."""
        root = int(self.trace.labels.roots(span.labels[:1])[0])
        return root in self.channels.padded and span.size > other.size and span.size % other.size != 0

    def _padded_factor(self, name: str, span: Span, other: Span) -> float:
        """√(old / new) for the scale of a norm over zeros, 1 for anything else."""
        if self.trace.uses[name].kind != "norm_scale" or not self._padding(span, other):
            return 1.0
        return math.sqrt(other.size / span.size)

    def _is_centred(self, name: str, span: Span, other: Span) -> bool:
        """Whether what a tensor writes into a stream that grows by zeros has its mean over the channels taken off."""
        root = int(self.trace.labels.roots(span.labels[:1])[0])
        is_norm = self.trace.uses[name].kind in ("norm_scale", "norm_shift")
        return root in self._takes_mean and not is_norm and span.made and self._padding(span, other)

    def _check_norms(self) -> None:
        """Doubt norms whose channels are not copied equally often."""
        uneven = 0
        for labels in self.trace.averaged:
            target = self.channels.target(labels)
            target = target[target >= 0]
            if not len(target):
                continue
            _, counts = np.unique(target, return_counts=True)
            uneven += int(counts.min() != counts.max())
        doubled = 0
        for labels in self.trace.summed:
            target = self.channels.target(labels)
            doubled += int(len(np.unique(target)) < len(target))
        if doubled:
            self.doubts.append(f"{doubled} sums over channels (softmax, L2 norms) count copies several times")
        if uneven:
            self.doubts.append(f"{uneven} norms average over channels that are not copied equally often")


def _times(make: Callable[[], Array], factor: float, offset: float) -> Array:
    """What, with the offset that the model adds, is a multiple of what it was."""
    made: Array = (make() + np.float32(offset)) * np.float32(factor) - np.float32(offset)
    return made


def _product(make: Callable[[], Array], factor: Callable[[], Array]) -> Array:
    values = make()
    made: Array = (values * factor().reshape(values.shape)).astype(values.dtype)
    return made


def _centre(make: Callable[[], Array], axes: tuple[int, ...]) -> Array:
    values = make()
    made: Array = values - values.mean(axis=axes, keepdims=True)
    return made


def _image(axis: int, size: int, have: int) -> Step:
    """The channels of an image: the same, their sum for a grey one, zeros for further ones."""

    def step(array: Array) -> Array:
        if size == have:
            return array
        if size == 1:
            grey: Array = array.sum(axis=axis, keepdims=True)
            return grey
        return rows(axis, np.where(np.arange(size) < have, np.arange(size), -1))(array)

    return step
