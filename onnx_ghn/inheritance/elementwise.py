"""Operators that keep channels in their places: sums, products, activations, norms, means."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.inheritance.fields import Field, Shape, axes_of, only_axis, vector
from onnx_ghn.inheritance.tracing import Trace

__all__ = ["ELEMENTWISE", "aligned", "broadcast", "met", "rows_along", "sizes_alone", "spread"]

Rule = Callable[[Trace, Op], None]

_HOMOGENEOUS = frozenset(
    "Relu LeakyRelu Identity Cast CastLike Dropout Neg Abs PRelu QuantizeLinear DequantizeLinear Quant IntQuant".split()  # noqa: SIM905
)


def unary(trace: Trace, op: Op) -> None:
    """What gives each element by itself."""
    given = op.input(0)
    writers = trace.writers_of(given) if op.op_type in _HOMOGENEOUS else ()
    owner = trace.owner(given)
    for out in op.outputs:
        trace.give(out, trace.shape(given), trace.of(given), writers, owner)
    trace.small(op)


def broadcast(trace: Trace, op: Op) -> None:
    """Arithmetic of several values: where their channels meet they are one."""
    given = [tensor for tensor in op.inputs if tensor is not None]
    if op.op_type == "Where":
        given = given[1:]
    shapes = [trace.shape(tensor) for tensor in given]
    known = [shape for shape in shapes if shape is not None]
    out = op.outputs[0]
    if len(known) < len(shapes):
        _vectors_alone(trace, op, given)
        trace.give(out, None)
        trace.small(op)
        return
    try:
        after = np.broadcast_shapes(*known)
    except ValueError:
        trace.give(out, None)
        return
    # A number that the model computes from sizes (attention's scale) is as good as a constant.
    is_const = [
        trace.is_stored(t) or (not trace.of(t) and (t.is_const or math.prod(shape) == 1))
        for t, shape in zip(given, known, strict=True)
    ]
    data = [tensor for tensor, const in zip(given, is_const, strict=True) if not const]
    consts = [tensor for tensor, const in zip(given, is_const, strict=True) if const]
    fields = met(trace, [aligned(field, len(after)) for t in (data or consts) for field in trace.of(t)], after)
    if data:
        vectors = [aligned(field, len(after)) for t in consts for field in trace.of(t)]
        has_channels = bool(fields)
        for field in vectors:
            partner = next((other for other in fields if axes_of(other) & axes_of(field)), None)
            if partner is not None:
                trace.roles(field, "channel")
                if all(size in (1, dim) for size, dim in zip(field.shape, after, strict=True)):
                    trace.labels.unite(*spread(partner, field))
            elif has_channels:
                trace.roles(field, "place")
            else:
                trace.roles(field, "channel")
                fields.append(field)
        for tensor in consts:
            if name := trace.owner(tensor):
                rank = len(trace.shape(tensor) or ())
                is_table = sum(size > 1 for size in (trace.shape(tensor) or ())) > 1
                trace.use(name, "place" if is_table else "factor" if op.op_type in ("Mul", "Div") else "vector", rank)
    if op.op_type == "Add" and len(data) > 1:
        trace.skipped_norms.update(name for tensor in data for name in trace.writers_of(tensor))
    writers = _writers_of(trace, op, data, consts)
    _note_numbers(trace, op, data, consts, writers)
    trace.give(out, tuple(after), fields, writers, _owner_of(trace, consts, data))
    trace.small(op)


def _vectors_alone(trace: Trace, op: Op, given: list[Tensor]) -> None:
    """Note the vectors of arithmetic on values whose sizes nobody knows: one number for each channel, as a rule."""
    for tensor in given if any(not tensor.is_const for tensor in given) else ():
        if tensor.is_const and len(trace.of(tensor)) == 1 and (name := trace.owner(tensor)):
            trace.use(name, "factor" if op.op_type in ("Mul", "Div") else "vector")
            trace.roles(trace.of(tensor)[0], "channel")


def _note_numbers(trace: Trace, op: Op, data: list[Tensor], consts: list[Tensor], writers: tuple[str, ...]) -> None:
    """Numbers of the model that scale a value, or that are added to a parameter."""
    numbers = [
        float(np.asarray(value).reshape(-1)[0])
        for tensor in consts
        if not trace.owner(tensor) and (value := trace.value(tensor)) is not None and value.size == 1
    ]
    if len(numbers) != 1:
        return
    if op.op_type in ("Mul", "Div") and len(data) == 1 and writers and numbers[0]:
        number = numbers[0] if op.op_type == "Mul" else 1 / numbers[0]
        trace.scaled[writers] = trace.scaled.get(writers, 1.0) * number
    owners = [trace.owner(tensor) for tensor in consts if trace.owner(tensor)]
    if op.op_type == "Add" and not data and len(owners) == 1:
        trace.offsets[owners[0]] = trace.offsets.get(owners[0], 0.0) + numbers[0]


def met(trace: Trace, found: list[Field], shape: Shape) -> list[Field]:
    """Fields of a result: those that cover the same axes are united."""
    fields: list[Field] = []
    for field in sorted(found, key=lambda f: -len(axes_of(f))):
        if any(size not in (1, dim) for size, dim in zip(field.shape, shape, strict=True)):
            continue
        partner = next((other for other in fields if axes_of(other) & axes_of(field)), None)
        if partner is None:
            fields.append(field)
        else:
            trace.labels.unite(*spread(partner, field))
    return fields


def spread(first: Field, second: Field) -> tuple[Field, Field]:
    a, b = np.broadcast_arrays(first, second)
    return a, b


def aligned(field: Field, rank: int) -> Field:
    return field.reshape([1] * (rank - field.ndim) + list(field.shape))


def _writers_of(trace: Trace, op: Op, data: list[Tensor], consts: list[Tensor]) -> tuple[str, ...]:
    """Tensors that, scaled together, scale what comes out."""
    owners = [trace.owner(tensor) for tensor in consts]
    if op.op_type in ("Mul", "Div"):  # a variance is no factor that may be scaled with others
        owners = [owner for owner in owners if owner not in trace.statistics and not _keeps(trace, owner)]
    if op.op_type == "Mul" and len(data) == 1 and any(owners):
        return tuple(filter(None, owners))
    before = {trace.writers_of(tensor) for tensor in data}
    if len(before) != 1:
        return ()
    writers = before.pop()
    if not writers:
        return ()
    if op.op_type in ("Add", "Sub"):
        if len(data) > 1:
            return writers
        owners = [trace.owner(tensor) for tensor in consts if not _is_zero(trace, tensor)]
        return (*writers, *owners) if all(owners) else ()
    if op.op_type in ("Mul", "Div") and len(data) == 1:
        return writers
    return ()


def _is_zero(trace: Trace, tensor: Tensor) -> bool:
    """Whether a constant is the number 0, which paddle2onnx adds behind each number that multiplies."""
    value = trace.value(tensor)
    return value is not None and value.size == 1 and not trace.owner(tensor) and not value.any()


def _keeps(trace: Trace, name: str) -> bool:
    """Whether a tensor keeps its values whatever is inherited, as nothing tells whether it was learned (turns)."""
    return name in trace.parameters and trace.parameters[name].uncertain


def _owner_of(trace: Trace, consts: list[Tensor], data: list[Tensor]) -> str:
    """The parameter that a constant value stands for: of a norm, its scale, or its shift where both meet."""
    if data:
        return ""
    owners = [owner for tensor in consts if (owner := trace.owner(tensor))]
    shifts = [trace.shift_of[owner] for owner in owners if trace.shift_of.get(owner) in owners]
    learned = [owner for owner in owners if owner not in trace.statistics]
    return next(iter((*shifts, *learned, *owners)), "")


def reduce(trace: Trace, op: Op) -> None:
    """Means and sums along axes; of channels, where it takes them."""
    data, out = op.input(0), op.outputs[0]
    shape = trace.shape(data)
    axes = trace.ints(op, 1, "axes")
    if op.op_type.startswith("Global"):
        axes = list(range(2, len(shape))) if shape is not None else None
    if op.op_type.startswith("Arg"):
        axes = [op.attr("axis", 0)]
    if shape is None:
        trace.give(out, None)
        return
    taken = set(range(len(shape))) if axes is None else {axis % len(shape) for axis in axes}
    keeps = bool(op.attr("keepdims", 1)) or op.op_type.startswith("Global")
    fields = []
    for field in trace.of(data):
        if taken & axes_of(field):
            averages = "Mean" in op.op_type or "Average" in op.op_type or op.op_type.endswith(("Max", "Min"))
            if data is not None and data.is_const and trace.owner(data) in trace.norms_of:
                pass  # a weight's length, whose norms follow what it gets
            elif averages or data is None or data.is_const:
                trace.averaged += rows_along(field, taken)
            else:
                trace.summed.setdefault(trace.number, []).extend(rows_along(field, taken))
            for axis in taken:
                field = field.take([0], axis)
        fields.append(field)
    after = tuple(1 if i in taken else dim for i, dim in enumerate(shape))
    if not keeps:
        after = tuple(dim for i, dim in enumerate(shape) if i not in taken)
        fields = [
            field.reshape([size for i, size in enumerate(field.shape) if i not in taken])
            for field in fields
            if not taken & axes_of(field)
        ]
    writers = trace.writers_of(data) if "Mean" in op.op_type else ()
    trace.give(out, after, fields, writers, trace.owner(data))
    trace.small(op)


def rows_along(field: Field, taken: set[int]) -> list[Field]:
    """Rows of labels that are averaged together."""
    width = 1
    order = [axis for axis in range(field.ndim) if axis not in taken] + sorted(taken)
    for axis in taken:
        width *= field.shape[axis]
    rows = field.transpose(order).reshape(-1, width)
    return list(rows) if len(rows) <= 4096 else []


def softmax(trace: Trace, op: Op) -> None:
    """Softmax: sums over an axis."""
    data = op.input(0)
    shape = trace.shape(data)
    if shape is not None:
        for field in trace.of(data):
            if only_axis(field, op.attr("axis", -1)):
                trace.summed.setdefault(trace.number, []).append(vector(field))
    trace.give(op.outputs[0], shape, trace.of(data))


def resize(trace: Trace, op: Op) -> None:
    """Resize and Upsample: channels stay."""
    data = op.input(0)
    shape = trace.shape(data)
    out = op.outputs[0]
    sizes = trace.ints(op, 3, "") if op.input(3) is not None else None
    after: Shape | None = None
    if shape is not None and sizes is not None and len(sizes) == len(shape):
        after = tuple(sizes)
    elif shape is not None:
        scales = trace.value(op.input(2 if op.op_type == "Resize" and len(op.inputs) > 2 else 1))
        if scales is not None and scales.size == len(shape):
            after = tuple(int(dim * float(times)) for dim, times in zip(shape, scales.reshape(-1), strict=True))
    # Places of a map that is resized are others.
    kept = [f for f in trace.of(data) if after is not None and all(after[i] == f.shape[i] for i in axes_of(f))]
    trace.give(out, after, kept, owner=trace.owner(data))


def sizes_alone(trace: Trace, op: Op) -> None:
    """What gives sizes or numbers that no channel enters."""
    for out in op.outputs:
        trace.give(out, None)
    trace.small(op)


_UNARY = """
    Relu LeakyRelu Identity Cast CastLike Dropout Neg Abs Sigmoid Tanh Erf Gelu QuickGelu FastGelu Exp Log Sqrt
    Reciprocal Sin Cos Softplus Softsign Elu Selu Celu HardSigmoid HardSwish Mish Clip Floor Ceil Round Sign Not
    ThresholdedRelu Trilu CumSum Rsqrt Shrink Swish LRN IsNaN IsInf Acos Asin Atan Sinh Cosh Tan QuantizeLinear
    DequantizeLinear Quant IntQuant BipolarQuant
""".split()  # noqa: SIM905 (a page of words, not of quotes)
_BROADCAST = """
    Add Sub Mul Div Pow Max Min Mean Sum Where PRelu Mod Equal Less Greater And Or LessOrEqual GreaterOrEqual Xor
""".split()  # noqa: SIM905 (a page of words, not of quotes)
_SIZES = "Shape Size Range ConstantOfShape NonZero".split()  # noqa: SIM905
_REDUCE = """
    ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp
    GlobalAveragePool GlobalMaxPool ArgMax ArgMin
""".split()  # noqa: SIM905 (a page of words, not of quotes)

ELEMENTWISE: dict[str, Rule] = {
    **dict.fromkeys(_UNARY, unary),
    **dict.fromkeys(_BROADCAST, broadcast),
    **dict.fromkeys(_SIZES, sizes_alone),
    **dict.fromkeys(_REDUCE, reduce),
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "Resize": resize,
    "Upsample": resize,
}
