"""Operators that sum over channels: matrix products, convolutions, pools."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.inheritance.fields import Field, Shape, along, axes_of, only_axis, vector
from onnx_ghn.inheritance.labels import Ints, repeats
from onnx_ghn.inheritance.tracing import Grouped, Heads, Trace

__all__ = ["PRODUCTS"]

Rule = Callable[[Trace, Op], None]

#: Products that `einsum` and `fused` follow.
_OTHER_PRODUCTS = frozenset(
    """
    Einsum FusedConv FusedGemm FusedMatMul TransposeMatMul Attention MultiHeadAttention GroupQueryAttention
    """.split()  # noqa: SIM905 (a line of words, not of quotes)
)

_NORMALISE = frozenset(
    {"ReduceMean", "BatchNormalization", "ReduceL2", "LpNormalization", "ReduceSumSquare", "InstanceNormalization"}
)


def matmul(trace: Trace, op: Op) -> None:
    """MatMul."""
    first, second = trace.needed(op, 0), trace.needed(op, 1)
    _product(trace, op, first, second, trace.of(first), trace.of(second))


def gemm(trace: Trace, op: Op) -> None:
    """Gemm: a matrix product of matrices that may be transposed, and a bias."""
    first, second, bias = trace.needed(op, 0), trace.needed(op, 1), op.input(2)
    turned = [
        [field.T if op.attr(name, 0) else field for field in trace.of(tensor)]
        for name, tensor in (("transA", first), ("transB", second))
    ]
    shapes = [trace.shape(first), trace.shape(second)]
    for i, name in enumerate(("transA", "transB")):
        shape = shapes[i]
        if shape is not None and op.attr(name, 0):
            shapes[i] = shape[::-1]
    _product(trace, op, first, second, turned[0], turned[1], shapes)
    out = op.outputs[0]
    if bias is not None:
        channels = trace.channel(out, -1)
        if channels is None:  # of a value whose sizes nobody knows: those that the weight writes
            channels = next((vector(field) for field in turned[1] if only_axis(field, 1)), None)
        tie_vector(trace, bias, channels, "vector")
        trace.writers[out] = (*trace.writers_of(out), *filter(None, [trace.owner(bias)]))


def tie_vector(trace: Trace, tensor: Tensor | None, labels: Ints | None, kind: str) -> None:
    """Note a constant with one number for each channel: its channels are those."""
    if tensor is None:
        return
    trace.use(trace.owner(tensor), kind)
    for field in trace.of(tensor):
        trace.roles(field, "channel")
        if labels is not None and field.size == len(labels):
            trace.labels.unite(vector(field), labels)


def _product(
    trace: Trace,
    op: Op,
    first: Tensor,
    second: Tensor,
    left: list[Field],
    right: list[Field],
    shapes: list[Shape | None] | None = None,
) -> None:
    """first @ second: (..., m, k) x (..., k, n) -> (..., m, n)."""
    out = op.outputs[0]
    a, b = shapes if shapes is not None else (trace.shape(first), trace.shape(second))
    if a is None or b is None or not a or not b:
        _weight_alone(trace, first, second, left, (-1, -2))
        _weight_alone(trace, second, first, right, (-2, -1))
        trace.give(out, None)
        return
    if len(a) == 1:
        a, left = (1, *a), [field.reshape(1, *field.shape) for field in left]
    if len(b) == 1:
        b, right = (*b, 1), [field.reshape(*field.shape, 1) for field in right]
    rank = max(len(a), len(b))
    left = [field.reshape([1] * (rank - len(a)) + list(field.shape)) for field in left]
    right = [field.reshape([1] * (rank - len(b)) + list(field.shape)) for field in right]
    batch = np.broadcast_shapes(a[:-2], b[:-2])
    const_a, const_b = trace.is_stored(first), trace.is_stored(second)
    if const_a and const_b:  # learned queries, a table of distances: what a weight reads, and no weight
        const_a = False
        trace.use(trace.owner(first), "place")
        for field in left:
            trace.roles(field, "channel" if rank - 1 in axes_of(field) else "place")
    if not (const_a or const_b):
        right = [_for_all_heads(field, left, rank) for field in right]
    positions = math.prod(batch) * a[-2]
    summed_a = next((field for field in left if rank - 1 in axes_of(field)), None)
    summed_b = next((field for field in right if rank - 2 in axes_of(field)), None)
    if summed_a is not None and summed_b is not None:
        if only_axis(summed_a, rank - 1) and only_axis(summed_b, rank - 2):
            if const_a or const_b:
                trace.labels.unite(vector(summed_a), vector(summed_b))
        elif const_b and only_axis(summed_b, rank - 2) and summed_a.shape[-1] == summed_b.shape[-2]:
            pass  # each head has its own channels, and one weight for all: nothing is one
        if not (const_a or const_b):
            width = a[-1]
            queries = vector(np.moveaxis(summed_a, rank - 1, -1))
            keys = vector(np.moveaxis(summed_b, rank - 2, -1))
            trace.cut(queries, width)
            trace.cut(keys, width)
            repeat = repeats(keys, width)
            if repeat > 1 and len(queries) == len(keys):  # keys that several queries share
                trace.cut(queries, repeat * width)
            heads = Heads(queries, keys, width, trace.writers_of(first), trace.writers_of(second))
            trace.heads.append(heads)
            trace.scores[out] = heads
    if summed_b is None and not (const_a or const_b):
        _mixture(trace, first, left, right, rank)
    for tensor, is_const, fields, summed, other in (
        (first, const_a, left, summed_a, rank - 2),
        (second, const_b, right, summed_b, rank - 1),
    ):
        if not is_const:
            continue
        name = trace.owner(tensor)
        trace.use(name, "linear", positions)
        if tensor is second:
            trace.fed_by.setdefault(name, trace.writers_of(first))
        if (places := _places_of(trace, first if tensor is second else second)) > 1:
            trace.places.setdefault(name, places)
        if name and _is_standardised(trace, name, tensor):
            trace.standardised.add(name)
        if summed is not None:
            trace.roles(summed, "in", contracted=True)
        for field in fields:
            if field is not summed:
                trace.roles(field, "out" if other in axes_of(field) else "part")
    rest_a = [_first_along(field, rank - 1) for field in left]
    rest_b = [_first_along(field, rank - 2) for field in right]
    kept: list[Field] = []
    for field in (*rest_b, *rest_a):
        covered = axes_of(field)
        if covered and not any(covered & axes_of(other) for other in kept):
            kept.append(field)
    shape = (*batch, a[-2], b[-1])
    kept = [field for field in kept if all(s in (1, dim) for s, dim in zip(field.shape, shape, strict=True))]
    writers = tuple(trace.owner(t) for t, const in ((first, const_a), (second, const_b)) if const)
    trace.give(out, shape, kept, writers)


def _for_all_heads(field: Field, left: list[Field], rank: int) -> Field:
    """A key or a value that all heads share (multi-query attention), once for each head of what it is multiplied by."""
    if not any(only_axis(field, axis) for axis in (rank - 1, rank - 2)):
        return field
    heads = next((other.shape[:-2] for other in left if axes_of(other) & set(range(rank - 2))), None)
    return field if heads is None else np.broadcast_to(field, (*heads, *field.shape[-2:]))


def _mixture(trace: Trace, first: Tensor, left: list[Field], right: list[Field], rank: int) -> None:
    """Note which heads of values the scores of which heads weigh."""
    for values in right:
        if rank - 1 not in axes_of(values):
            continue
        if only_axis(values, rank - 1):  # one head, whose scores have no channels
            heads = trace.scores.get(first)
            if heads is not None and heads.left.size == heads.right.size == heads.width:
                trace.mixtures.append((heads.right.reshape(-1)[:1], values.reshape(1, -1)))
                trace.cut(values, values.shape[-1])
            continue
        for scores in left:
            if scores.shape[:-1] == values.shape[:-1]:
                trace.mixtures.append((vector(scores), values.reshape(scores.size, -1)))
                trace.cut(values, values.shape[-1])


def _places_of(trace: Trace, tensor: Tensor) -> int:
    """How many places the map has whose flattened values, each by itself, a value is computed from; 1 for no such."""
    value: Tensor | None = tensor
    while value is not None and value not in trace.flattened:
        op = value.producer
        if (
            op is None
            or op.op_type in PRODUCTS
            or op.op_type in _OTHER_PRODUCTS
            or trace.shape(op.input(0)) != trace.shape(value)
        ):
            return 1
        value = op.input(0)
    return 1 if value is None else trace.flattened[value]


def _weight_alone(trace: Trace, weight: Tensor, other: Tensor, fields: list[Field], axes: tuple[int, int]) -> None:
    """Note the weight of a product whose other side has sizes that nobody knows.

    Args:
        axes: of the weight: the one that is summed over, and the one that is not.
    """
    name = trace.owner(weight)
    if not weight.is_const or not name:
        return
    trace.use(name, "linear")
    trace.fed_by.setdefault(name, trace.writers_of(other))
    for field in fields:
        role = next((role for role, axis in zip(("in", "out"), axes, strict=True) if only_axis(field, axis)), "part")
        trace.roles(field, role, contracted=role == "in")


def _first_along(field: Field, axis: int) -> Field:
    """A field of what is left when an axis is summed over: the first label stands for its part."""
    return field.take([0], axis)


def _is_standardised(trace: Trace, name: str, weight: Tensor) -> bool:
    """Whether the model normalises a weight before it uses it, and holds no norms for it, which would go with it."""
    if name in trace.norms_of:
        return False
    makers = (value.producer for value in weight.made_of())
    return any(maker is not None and maker.op_type in _NORMALISE for maker in makers)


def convolution(trace: Trace, op: Op) -> None:
    """Conv and ConvTranspose."""
    data, weight, bias, out = trace.needed(op, 0), trace.needed(op, 1), op.input(2), op.outputs[0]
    shape, kernel = trace.shape(data), trace.shape(weight)
    if kernel is None or len(kernel) < 3:
        trace.give(out, None)
        return
    is_transposed = op.op_type == "ConvTranspose"
    groups = max(1, op.attr("group", 1))
    n_in, n_out = (kernel[0], kernel[1] * groups) if is_transposed else (kernel[1] * groups, kernel[0])
    rank = len(kernel)
    name = trace.owner(weight)
    incoming = trace.channel(data, 1)
    if incoming is not None and len(incoming) != n_in:
        incoming = None
    by_axis = {next(iter(axes_of(field))): field for field in trace.of(weight) if len(axes_of(field)) == 1}
    axis_in, axis_out = (0, 1) if is_transposed else (1, 0)
    made = by_axis.get(axis_out)
    is_depthwise = groups == n_in and groups > 1
    after = _map_after(trace, op, shape, kernel, n_out, is_transposed)
    positions = math.prod(after[2:]) if after is not None else 0
    size = max(kernel[2:])
    kind = "depthwise" if is_depthwise else "grouped" if groups > 1 else "conv" if size > 1 else "linear"
    trace.use(name, "transposed" if is_transposed else kind, positions)
    trace.fed_by.setdefault(name, trace.writers_of(data))
    if (places := _places_of(trace, data)) > 1:
        trace.places.setdefault(name, places)
    if name and _is_standardised(trace, name, weight):
        trace.standardised.add(name)
    for axis in range(2, rank):
        trace.roles(by_axis.get(axis), f"kernel{axis - 2}")
    outgoing: Ints | None = vector(made) if made is not None else None
    read = by_axis.get(axis_in)
    if groups == 1:
        trace.roles(made, "out")
        if read is not None:
            trace.roles(read, "in", contracted=True)
            if incoming is not None:
                trace.labels.unite(vector(read), incoming)
    elif is_depthwise and n_out == n_in:
        field = by_axis.get(0)
        trace.roles(field, "out")
        outgoing = vector(field) if field is not None else None
        if outgoing is not None and incoming is not None:
            trace.labels.unite(outgoing, incoming)
    else:
        if groups == n_in and not is_transposed:
            _inputs_beside_multiplier(trace, weight, incoming, groups)
        trace.roles(made, "out")
        trace.roles(read, "in", contracted=not is_transposed)
        if is_transposed:
            outgoing = None
            if name:
                trace.transposed_groups.add(name)
        if incoming is not None and outgoing is not None:
            trace.cut(incoming, n_in // groups)
            trace.cut(outgoing, n_out // groups)
            trace.grouped.setdefault(name, Grouped(groups, incoming, outgoing))
    if outgoing is None and n_out > 1:
        outgoing = trace.labels.new(n_out).labels
    fields = [] if outgoing is None or len(outgoing) != n_out else [along(outgoing, rank, 1)]
    tie_vector(trace, bias, outgoing, "vector")
    trace.give(out, after, fields, tuple(filter(None, [name, trace.owner(bias)])))


def _inputs_beside_multiplier(trace: Trace, weight: Tensor, incoming: Ints | None, groups: int) -> None:
    """A depthwise weight that is stored as inputs × multiplier, as Keras has it: its inputs have an axis."""
    fields = [field for field in trace.of(weight) if axes_of(field) == {0}]
    for field in fields if len(fields) > 1 else ():
        inputs = vector(field).reshape(groups, -1)[:, 0]
        if len(np.unique(inputs)) == groups:
            trace.roles(field, "in")
            if incoming is not None:
                trace.labels.unite(inputs, incoming)


def _map_after(
    trace: Trace, op: Op, shape: Shape | None, kernel: Shape, n_out: int, is_transposed: bool
) -> Shape | None:
    """Sizes of what a convolution gives."""
    if shape is None or len(shape) != len(kernel):
        return None
    sides = _sides(op, shape[2:], kernel[2:], is_transposed)
    return None if sides is None else (shape[0], n_out, *sides)


def _sides(op: Op, sides: Shape, kernel: Shape, is_transposed: bool, ceil: bool = False) -> Shape | None:
    n = len(sides)
    strides = op.attr("strides") or [1] * n
    dilations = op.attr("dilations") or [1] * n
    pads = op.attr("pads") or [0] * 2 * n
    auto = op.attr("auto_pad", "NOTSET")
    found = []
    for i in range(n):
        reach = dilations[i] * (kernel[i] - 1) + 1
        if is_transposed:
            more = (op.attr("output_padding") or [0] * n)[i]
            if auto.startswith("SAME"):
                found.append(sides[i] * strides[i])
            else:
                found.append(strides[i] * (sides[i] - 1) + more + reach - pads[i] - pads[n + i])
        elif auto.startswith("SAME"):
            found.append(-(-sides[i] // strides[i]))
        else:
            room = sides[i] + (0 if auto == "VALID" else pads[i] + pads[n + i]) - reach
            found.append((-(-room // strides[i]) if ceil else room // strides[i]) + 1)
    return tuple(found) if all(side > 0 for side in found) else None


def pool(trace: Trace, op: Op) -> None:
    """MaxPool and its kin: each channel by itself."""
    data = op.input(0)
    shape, kernel = trace.shape(data), op.attr("kernel_shape")
    after = None
    if shape is not None and kernel is not None:
        sides = _sides(op, shape[2:], tuple(kernel), False, bool(op.attr("ceil_mode", 0)))
        after = None if sides is None else (*shape[:2], *sides)
    fields = trace.of(data)
    for out in op.outputs:
        trace.give(out, after, fields, trace.writers_of(data))


PRODUCTS: dict[str, Rule] = {
    "MatMul": matmul,
    "Gemm": gemm,
    "Conv": convolution,
    "ConvTranspose": convolution,
    "MaxPool": pool,
    "AveragePool": pool,
    "LpPool": pool,
}
