"""The channels of a model, followed from operator to operator: which axes of which tensors are one channel group."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import GraphError
from onnx_ghn.graph.flat import FlatGraph, Op, Tensor
from onnx_ghn.inheritance.fields import LARGEST, Field, Shape, axes_of, only_axis, vector
from onnx_ghn.inheritance.labels import Ints, Labels, Span, repeats
from onnx_ghn.inheritance.sizes import computed

if TYPE_CHECKING:
    from onnx_ghn.graph import Parameter
    from onnx_ghn.graph.model import RunningNorm

__all__ = ["UNREAD", "Grouped", "Heads", "Part", "Piece", "Trace", "Use"]

#: How the kind of a parameter begins whose operator no rule knows: its axes are not followed.
UNREAD = "input"

Piece = tuple[Shape, list[Field], tuple[str, ...]]  # of a value that is cut: sizes, fields, and what writes it


@dataclasses.dataclass(frozen=True, eq=False)
class Grouped:
    """A grouped convolution: whose weight reads, in each group of its outputs, the channels of that group alone.

    Attributes:
        inputs: labels of all channels that it reads, (in,).
        outputs: labels of all that it gives, (out,).
    """

    groups: int
    inputs: Ints
    outputs: Ints


@dataclasses.dataclass(eq=False)
class Heads:
    """A product of two values over their channels: attention's scores of queries and keys.

    Attributes:
        left, right: labels of what is multiplied, (heads × width,) each; `width` of them are summed over.
        left_writers: tensors that, scaled together, scale the left value.
        scale: the model's own numbers that scale the product before its Softmax; NaN where they are not known.
        is_weighed: whether that Softmax has been met.
        is_numbered: whether numbers that go with the place of a head are added (ALiBi).
    """

    left: Ints
    right: Ints
    width: int
    left_writers: tuple[str, ...]
    right_writers: tuple[str, ...]
    scale: float = 1.0
    is_weighed: bool = False
    is_numbered: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """A part of a stored tensor that is seen as a tensor of its own.

    Attributes:
        name: of the whole.
        what: queries, keys or values.
        axis: along which it is a part.
        index: where its elements stand along that axis, in order.
    """

    name: str
    what: str
    axis: int
    index: Ints


@dataclasses.dataclass(frozen=True)
class Use:
    """Where a stored tensor is read first.

    Attributes:
        op: number of the operator among those of the flat graph.
        kind: what the tensor is to it: conv, depthwise, grouped, linear, vector, table, place, recurrent ...
        positions: of the map or the sequence that it works on; 0 where that is unknown.
    """

    op: int
    kind: str
    positions: int = 0


class Trace:
    """What following the channels of a model found.

    Attributes:
        labels: of all channels.
        axes: for each stored parameter, the span of each of its axes, in the order in which it is stored.
        uses: where each parameter is read first.
        grouped, heads: see there.
        mixtures: of attention, one label for each head of its scores (those of the keys), and the labels of the values
            that they weigh, (heads, width of a value).
        scores: of values that are made of products of queries and keys, which.
        numbers: by which numbers of the model values are scaled, where these are not 1.
        averaged: channels that a norm averages over: each has to be copied equally often.
        summed: channels that are summed over without weights, by the number of the operator: copies would count twice.
        in_norms: numbers of the operators of norms that are written as arithmetic.
        norms: of those that average, (labels of the channels, names of scale and shift, whether the mean is taken off).
        standardised: weights that the model itself normalises before it uses them.
        transposed_groups: weights of grouped transposed convolutions, whose groups are not followed.
        scaled: numbers of the model that multiply a value, by the tensors that scale it.
        offsets: what the model adds to a tensor before it uses it (1 + w of a norm).
        gains: of those, the tensor that scales the normalised weight, and a number that does.
        batch_norms: by the name of a scale, the name of the variance and what is added to it.
        epsilons: of batch norms, by the names of their variances.
        places, flattened: of how many places flattened maps are, by weights that read them, and by the values.
        running_norms: batch norms with running statistics that are written as arithmetic.
        statistics, shift_of: names of their means and variances, which scale nothing; their shifts by their scales.
        fed_by: for weights, the tensors that, scaled together, scale what the weight is multiplied by.
        skipped_norms: scales and shifts of norms whose outputs are added to a branch as they are (post-norm).
        unknown: operators whose way of moving channels is not known, by type.
        norms_of: by the names of weights, those of their norms, where the model holds these apart.
        parts: tensors that are parts of stored ones, by their names; see `packed`.
    """

    def __init__(
        self,
        flat: FlatGraph,
        parameters: Sequence[Parameter],
        free: Mapping[str, Shape],
        running_norms: Sequence[RunningNorm],
    ) -> None:
        self.flat = flat
        self.running_norms = running_norms
        self.statistics = {name for norm in running_norms for name in (norm.mean, norm.variance)}
        self.shift_of = {norm.scale: norm.shift for norm in running_norms if norm.scale and norm.shift}
        self.labels = Labels()
        self.axes: dict[str, tuple[Span | None, ...]] = {}
        self.uses: dict[str, Use] = {}
        self.grouped: dict[str, Grouped] = {}
        self.heads: list[Heads] = []
        self.mixtures: list[tuple[Ints, Ints]] = []
        self.scores: dict[Tensor, Heads] = {}
        self.numbers: dict[Tensor, float] = {}
        self.averaged: list[Ints] = []
        self.summed: dict[int, list[Ints]] = {}
        self.in_norms: set[int] = set()
        self.norms: list[tuple[Ints, tuple[str, ...], bool]] = []
        self.standardised: set[str] = set()
        self.transposed_groups: set[str] = set()
        self.scaled: dict[tuple[str, ...], float] = {}
        self.offsets: dict[str, float] = {}
        self.gains: dict[str, tuple[str, float]] = {}
        self.batch_norms: dict[str, tuple[str, float]] = {}
        self.epsilons: dict[str, float] = {}
        self.places: dict[str, int] = {}
        self.flattened: dict[Tensor, int] = {}
        self.skipped_norms: set[str] = set()
        self.fed_by: dict[str, tuple[str, ...]] = {}
        self.unknown: dict[str, int] = {}
        self.parts: dict[str, Part] = {}
        self.parameters = {parameter.name: parameter for parameter in parameters}
        self.norms_of = {p.magnitude_of: p.name for p in parameters if p.magnitude_of}
        self.shapes: dict[Tensor, Shape | None] = {}
        self.values: dict[Tensor, Array | None] = {}
        self.fields: dict[Tensor, list[Field]] = {}
        self.writers: dict[Tensor, tuple[str, ...]] = {}
        self.owners: dict[Tensor, str] = {}
        self.sequences: dict[Tensor, list[Piece]] = {}
        self.number = 0
        self._aliases: dict[int, list[Span]] = {}
        self._joined: dict[str, list[str]] = {}
        for tensor in flat.inputs:
            self.shapes[tensor] = free.get(tensor.name)
            self.fields[tensor] = []

    # -- what is known of a value ------------------------------------------------------------------------

    def shape(self, tensor: Tensor | None) -> Shape | None:
        """Sizes of a value, None where they are not known."""
        if tensor is None:
            return None
        if tensor not in self.shapes:
            self._enter(tensor)
        return self.shapes[tensor]

    def value(self, tensor: Tensor | None) -> Array | None:
        """What a small value holds, where that is known."""
        if tensor is None:
            return None
        if tensor not in self.shapes:
            self._enter(tensor)
        return self.values.get(tensor)

    def of(self, tensor: Tensor | None) -> list[Field]:
        """The fields of a value."""
        if tensor is None:
            return []
        if tensor not in self.shapes:
            self._enter(tensor)
        return self.fields.get(tensor, [])

    def ints(self, op: Op, index: int, name: str) -> list[int] | None:
        """Numbers that an operator takes as an input or, in old opsets, as an attribute."""
        given = op.input(index)
        if given is None:
            return op.attr(name)
        array = self.value(given)
        return None if array is None else [int(number) for number in np.asarray(array).reshape(-1)]

    def channel(self, tensor: Tensor | None, axis: int) -> Ints | None:
        """The labels along one axis of a value, where they depend on no other."""
        for field in self.of(tensor):
            if field.ndim and only_axis(field, axis):
                return vector(field)
        return None

    def owner(self, tensor: Tensor | None) -> str:
        """The stored parameter that a constant value is made of, "" where there is none."""
        if tensor is None:
            return ""
        if tensor not in self.shapes:
            self._enter(tensor)
        return self.owners.get(tensor, "")

    def is_stored(self, tensor: Tensor) -> bool:
        """Whether a constant stands for a parameter; what weights make of constants is as good as any value."""
        return tensor.is_const and bool(self.owner(tensor))

    def writers_of(self, tensor: Tensor | None) -> tuple[str, ...]:
        """The tensors that, scaled together, scale a value; none where they are not known."""
        return () if tensor is None else self.writers.get(tensor, ())

    def _enter(self, tensor: Tensor) -> None:
        """What is known of a stored tensor, or of a value that nothing was said of."""
        stored = tensor.stored
        if stored is None:
            shape = tensor.shape
            self.shapes[tensor] = (
                tuple(int(dim) for dim in shape if dim is not None)
                if shape is not None and all(isinstance(dim, int) for dim in shape)
                else None
            )
            return
        shape = tuple(stored.shape)
        self.shapes[tensor] = shape
        if math.prod(shape) <= 4096 and not stored.is_string and not stored.is_absent and not stored.is_sparse:
            self.values[tensor] = np.asarray(stored.numpy())
        if stored.name in self.parameters:
            spans = [
                self.labels.new(size, stored.name, axis) if 1 < size <= LARGEST else None
                for axis, size in enumerate(shape)
            ]
            self.axes[stored.name] = tuple(spans)
            self.owners[tensor] = stored.name
            self.fields[tensor] = [
                span.labels.reshape([-1 if i == axis else 1 for i in range(len(shape))])
                for axis, span in enumerate(spans)
                if span is not None
            ]

    def needed(self, op: Op, index: int) -> Tensor:
        """An input that an operator of its type must have. Raises GraphError: it is left out."""
        given = op.input(index)
        if given is None:
            raise GraphError(f"{op.op_type} node {op.name!r} lacks input {index}; check the model with onnx.checker")
        return given

    # -- what operators say ------------------------------------------------------------------------------

    def give(
        self,
        tensor: Tensor,
        shape: Shape | None,
        fields: Sequence[Field] = (),
        writers: tuple[str, ...] = (),
        owner: str = "",
    ) -> None:
        """Say what an operator gives."""
        if shape is None:
            shape = self._declared(tensor)
        self.shapes[tensor] = shape
        rank = -1 if shape is None else len(shape)
        self.fields[tensor] = [field for field in fields if field.ndim == rank and field.size and axes_of(field)]
        self.writers[tensor] = writers
        if owner:
            self.owners[tensor] = owner

    def _declared(self, tensor: Tensor) -> Shape | None:
        shape = tensor.shape
        if shape is None or not all(isinstance(dim, int) and dim > 0 for dim in shape):
            return None
        return tuple(int(dim) for dim in shape if dim is not None)

    def use(self, name: str, kind: str, positions: int = 0) -> None:
        """Note where a parameter is read first."""
        for one in (name, *self._joined.get(name, ())):
            if one in self.parameters and one not in self.uses:
                self.uses[one] = Use(self.number, kind, positions)

    def roles(self, field: Field | None, role: str, *, contracted: bool = False) -> None:
        """Note what the axes behind a field of a weight are to the operator that reads it."""
        if field is None or not field.size:
            return
        for span in self.labels.spans_of(vector(field)):
            if span.axis < 0:
                continue
            for one in (span, *self._aliases.get(span.start, ())):
                one.role = one.role or role
                if contracted:
                    one.contracted = True
                else:
                    one.made = True

    def join(self, names: Sequence[str]) -> None:
        """Note that a constant is joined of several tensors: what reads the first reads all."""
        if len(names) > 1:
            self._joined.setdefault(names[0], []).extend(names[1:])

    def alias(self, field: Field, other: Field) -> None:
        """Note that a weight is joined of several tensors: what one axis is, so is the other."""
        for span, also in zip(*(self.labels.spans_of(vector(each)) for each in (field, other)), strict=False):
            self._aliases.setdefault(span.start, []).append(also)

    def cut(self, field: Ints, stride: int) -> None:
        """Note that the channels are read in parts of that length."""
        self.labels.cut(field, stride)

    def small(self, op: Op) -> None:
        """Compute what an operator gives of small arrays, where that is simple."""
        array = computed(op, [self.value(t) for t in op.inputs], [self.shape(t) for t in op.inputs])
        if array is not None:
            self.values[op.outputs[0]] = array
            self.shapes[op.outputs[0]] = tuple(array.shape)

    def unknown_op(self, op: Op) -> None:
        """Note an operator of which nothing is known."""
        name = "loops" if op.op_type == "Join" else op.op_type
        self.unknown[name] = self.unknown.get(name, 0) + 1
        for tensor in op.outputs:
            self.give(tensor, None)

    def unread(self, op: Op) -> None:
        """Note the parameters among an operator's inputs that no rule knows: each is of a kind of its own."""
        if all(tensor.is_const for tensor in op.outputs):
            return
        for index, tensor in enumerate(op.inputs):
            if tensor is not None and tensor.is_const and (name := self.owner(tensor)) and name not in self.uses:
                self.use(name, f"{UNREAD} {index} of {op.op_type}")

    # -- at the end --------------------------------------------------------------------------------------

    def whole(self, name: str) -> str:
        """The stored tensor that a tensor is, or is a part of."""
        return self.parts[name].name if name in self.parts else name

    def parts_of(self, whole: str) -> list[str]:
        """The names of the parts of a stored tensor that is seen as several, in their order in it."""
        return [name for name, part in self.parts.items() if part.name == whole]

    def roots(self, name: str) -> list[Ints | None]:
        """The united labels of each axis of a parameter; None for axes of length 1."""
        return [None if span is None else self.labels.roots(span.labels) for span in self.axes.get(name, ())]

    def share_strides(self) -> None:
        """Spans whose labels are united in order have the same parts and heads."""
        alike: dict[bytes, set[int]] = {}
        keys = []
        for span in self.labels.spans:
            key = self.labels.roots(span.labels).tobytes()
            keys.append(key)
            alike.setdefault(key, set()).update(span.strides)
        widths: dict[bytes, int] = {}
        cut = [(labels.reshape(-1), heads.width) for heads in self.heads for labels in (heads.left, heads.right)]
        cut += [(values.reshape(-1), values.shape[-1]) for _, values in self.mixtures]
        for labels, width in cut:
            key = self.labels.roots(labels).tobytes()
            widths.setdefault(key, width)
            shared = repeats(labels, width) * width
            if key in alike and width < shared:  # what reads values that several queries share
                alike[key].add(shared)
            span = self.labels.span_of(int(labels[0]))  # of which they may be a part
            if span.size % width == 0:
                widths.setdefault(self.labels.roots(span.labels).tobytes(), width)
        for span, key in zip(self.labels.spans, keys, strict=True):
            span.strides, span.head = alike[key], widths.get(key, 0)


def positive(shape: Sequence[int]) -> Shape:
    """Sizes of a value. Raises GraphError for one below zero."""
    if any(size < 0 for size in shape):
        raise GraphError(f"a value of sizes {list(shape)} cannot be; check the model with onnx.checker")
    return tuple(int(size) for size in shape)
