"""Normalisation written as arithmetic, found by structure: mean, square, mean, root, quotient, scale, shift.

Two-pass (x − μ)² and one-pass E[x²] − μ² variances, RMS normalisation, scales folded into the reciprocal
root, and shifts folded into −μ·σ⁻¹ are one pattern here: everything between a root value x and one exit that is made of
x, of statistics of x, and of per-channel constants.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence

from onnx_ghn.graph.flat import FlatGraph, Op, Tensor
from onnx_ghn.graph.folding import ints_of, scalar_of
from onnx_ghn.graph.weights import per_channel, static_shape

__all__ = ["NormMatch", "find_norms"]

# tf2onnx makes global pools of means over the last axes: of features of tokens, too.
_REDUCTIONS = frozenset({"ReduceMean", "ReduceSum", "ReduceSumSquare", "GlobalAveragePool"})
_ROUNDED = frozenset({"Cast", "CastLike", "Identity", "QuantizeLinear", "DequantizeLinear"})  # static quantisers' pairs
_SHAPED = _ROUNDED | {"Reshape", "Unsqueeze", "Squeeze", "Expand"}
_GUARDS = frozenset({"Max", "Relu", "Clip", "Abs", "Reciprocal", "Sqrt", "Pow", "Neg"})
_SIZES = frozenset({"Shape", "Size"})
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div"})


@dataclasses.dataclass
class NormMatch:
    """A decomposed normalisation: its input, its output, the operators between, and its constants."""

    root: Tensor
    exit: Tensor
    ops: set[Op]
    scale: Tensor | None
    shift: Tensor | None
    over_batch: bool


def find_norms(flat: FlatGraph) -> list[NormMatch]:
    """All decomposed normalisations of a model (nothing here looks at names or positions)."""
    position = {op: i for i, op in enumerate(flat.ops)}
    outputs = set(flat.outputs)
    matches: list[NormMatch] = []
    taken: set[Op] = set()
    for op in flat.ops:
        if not _is_root_op(op) or op in taken:
            continue
        anchor = op.inputs[0]
        if anchor is None or anchor.is_const:
            continue
        root, axes = _normalised(anchor)
        if root is None:
            continue
        match = _region(root, op, position, outputs, axes)
        if match is not None and not (match.ops & taken):
            taken |= match.ops
            matches.append(match)
    return matches


def _is_root_op(op: Op) -> bool:
    if op.op_type == "Sqrt":
        return True
    exponent = op.input(1)
    return op.op_type == "Pow" and exponent is not None and scalar_of(exponent) in (0.5, -0.5)


def _normalised(anchor: Tensor) -> tuple[Tensor | None, frozenset[int]]:
    """The value whose variance is under a root, and the axes over which it is taken."""
    stack, roots, axes = [anchor], set(), frozenset[int]()
    for _ in range(64):
        if not stack:
            break
        op = stack.pop().producer
        if op is None:
            return None, frozenset()
        if op.op_type in _REDUCTIONS:
            roots.add(_strip(_centred(_unsquared(op))))
            axes |= _axes(op)
        elif op.op_type in _ARITHMETIC or op.op_type in _SHAPED or op.op_type in _GUARDS or op.op_type == "Where":
            stack.extend(_data_of(op))
        else:
            return None, frozenset()
    return (roots.pop(), axes) if len(roots) == 1 else (None, frozenset())


def _axes(reduction: Op) -> frozenset[int]:
    """The axes over which a value is reduced, as they are given; a global pool takes all behind the second."""
    if reduction.op_type == "GlobalAveragePool":
        shape = reduction.outputs[0].shape
        return frozenset(range(2, len(shape) if shape else 3))
    given = reduction.input(1)
    return frozenset((ints_of(given) if given is not None else reduction.attr("axes")) or ())


def _data_of(op: Op) -> list[Tensor]:
    """What an operator computes on: of a view the first input, of a choice that is made beforehand (JAX's variance is
    NaN where there are no samples) what is chosen.
    """
    given: Sequence[Tensor | None] = op.inputs
    if op.op_type in _SHAPED:
        given = op.inputs[:1]
    elif op.op_type == "Where" and op.inputs[0] is not None:
        chosen = scalar_of(op.inputs[0]) if op.inputs[0].is_const else None
        given = op.inputs if chosen is None else (op.inputs[1 if chosen else 2],)
    return [tensor for tensor in given if tensor is not None and not tensor.is_const]


def _unsquared(reduction: Op) -> Tensor:
    value = reduction.inputs[0]
    assert value is not None  # reductions have an input: onnx.checker's arity
    if reduction.op_type == "ReduceSumSquare":
        return value
    op = _strip(value).producer
    if op is not None and op.op_type == "Mul" and op.inputs[0] is op.inputs[1] and op.inputs[0] is not None:
        return op.inputs[0]
    if op is not None and op.op_type == "Pow" and op.inputs[0] is not None:
        exponent = op.input(1)
        if exponent is not None and scalar_of(exponent) == 2:
            return op.inputs[0]
    return value


def _centred(value: Tensor) -> Tensor:
    """x where the value is x − mean(x), else the value itself."""
    op = _strip(value).producer
    if op is not None and op.op_type == "Sub" and op.inputs[0] is not None and op.inputs[1] is not None:
        mean = _strip(op.inputs[1], _SHAPED).producer
        if mean is not None and mean.op_type == "Div":
            mean = _strip(mean.inputs[0], _SHAPED).producer if mean.inputs[0] is not None else None
        if mean is not None and mean.op_type in _REDUCTIONS and mean.inputs[0] is not None:
            return op.inputs[0]
    return value


def _strip(value: Tensor, views: frozenset[str] = _ROUNDED) -> Tensor:
    """The value before casts (half-precision models compute statistics in float32) and rounding, or other views."""
    while value.producer is not None and value.producer.op_type in views:
        before = value.producer.inputs[0]
        if before is None:
            break
        value = before
    return value


def _region(
    root: Tensor, anchor: Op, position: dict[Op, int], outputs: set[Tensor], axes: frozenset[int]
) -> NormMatch | None:
    """Grow the region from the root in topological order; kinds of value:

    x: the root; c: centred; q: squared; s: statistic; r: statistic behind the root; n: normalised.
    """
    kind: dict[Tensor, str] = {root: "x"}
    queue: list[tuple[int, int]] = []
    by_position: dict[int, Op] = {}

    def push(tensor: Tensor) -> None:
        for op in tensor.consumers:
            place = position[op]
            if place not in by_position:
                by_position[place] = op
                heapq.heappush(queue, (place, 0))

    push(root)
    ops: set[Op] = set()
    scale: Tensor | None = None
    shift: Tensor | None = None
    while queue:
        op = by_position[heapq.heappop(queue)[0]]
        data = _data_of(op)
        if any(t not in kind for t in data) or len(op.outputs) != 1:
            continue
        constants = [t for t in op.inputs if t is not None and t.is_const]
        new = _kind(op, [kind[t] for t in data], data, op is anchor)
        if new is None:
            continue
        vector = next((t for t in constants if _is_affine(t, root, axes, scale)), None)
        if op.op_type in _ARITHMETIC and vector is None and any(_is_table(t) for t in constants):
            continue
        if op.op_type in _ARITHMETIC and vector is not None:
            if op.op_type == "Mul" and scale is None and shift is None and new in ("r", "n"):
                scale = vector
            elif op.op_type in ("Add", "Sub") and shift is None and new in ("r", "n"):
                shift = vector
            else:
                continue
        elif new == "n" and shift is not None and kind[data[0]] == "n" and op.op_type in _ARITHMETIC and constants:
            continue
        kind[op.outputs[0]] = new
        ops.add(op)
        push(op.outputs[0])
    ends: list[Tensor] = []
    # Against the flow: a view whose output nothing in the region reads trails the layer and is no part of it.
    for tensor in reversed([t for t, k in kind.items() if k == "n"]):
        readers = [user for user in tensor.consumers if user.op_type not in _SIZES]
        producer = tensor.producer
        trails = producer is not None and producer.op_type in _SHAPED and not any(user in ops for user in readers)
        if trails and producer is not None and any(kind.get(t) == "n" for t in producer.inputs if t is not None):
            ops.discard(producer)
        elif tensor in outputs or any(user not in ops for user in readers):
            ends.append(tensor)
    if len(ends) != 1 or anchor not in ops:
        return None
    return NormMatch(root, ends[0], ops, scale, shift, 0 in axes)


def _is_table(constant: Tensor) -> bool:
    """Whether a constant has several axes of several elements."""
    shape = static_shape(constant)
    return shape is not None and sum(size > 1 for size in shape) > 1


def _is_affine(constant: Tensor, root: Tensor, axes: frozenset[int], scale: Tensor | None) -> bool:
    """Whether a constant has the shape of a norm's scale or shift.

    It has one number for each channel. The channels may lie in two axes, groups and what is in a group, where the norm
    is taken of a view of them (group normalisation: over what is in a group and all pixels); or in several, over all of
    which the norm is taken (layer normalisation of maps). A table of positions, which is added to a norm of features
    without scale and shift, is neither.
    """
    shape = static_shape(constant)
    if shape is None or per_channel(shape):
        return shape is not None
    wide = [axis for axis, size in enumerate(shape) if size > 1]
    reduced = {axis % len(shape) for axis in axes if -len(shape) <= axis < len(shape)} if shape else set[int]()
    if len(wide) < 2 or not reduced:
        return False
    if reduced.issuperset(wide):
        return True
    split = len(wide) == 2 and wide[1] == wide[0] + 1 and sum(axis in reduced for axis in wide) == 1
    is_view = root.producer is not None and root.producer.op_type == "Reshape"
    return split and is_view and (len(reduced) > 1 or scale is None or static_shape(scale) == shape)


def _kind(op: Op, kinds: list[str], data: list[Tensor], is_anchor: bool) -> str | None:
    """Kind of an operator's output from those of its inputs; None where it ends the region."""
    present = set(kinds)
    if is_anchor:
        return "r" if present == {"s"} else None
    if op.op_type in _REDUCTIONS:
        return "s" if len(kinds) == 1 and kinds[0] in "xcq" else None
    if op.op_type in _SHAPED or op.op_type == "Where":
        return kinds[0] if len(kinds) == 1 else None
    if op.op_type in _GUARDS:
        if present <= {"s"} and kinds:
            return "s"
        if present <= {"s", "r"} and kinds:
            return "r"
        exponent = op.input(1)
        if op.op_type == "Pow" and kinds in (["x"], ["c"]) and exponent is not None and scalar_of(exponent) == 2:
            return "q"
        return None
    if op.op_type not in _ARITHMETIC:
        return None
    if op.op_type == "Mul" and len(data) == 2 and data[0] is data[1] and kinds[0] in "xc":
        return "q"
    if present <= {"s", "r"}:
        return "r" if "r" in present else "s"
    if op.op_type == "Sub" and kinds == ["x", "s"]:
        return "c"
    if op.op_type in ("Mul", "Div") and len(kinds) == 2 and present in ({"x", "r"}, {"c", "r"}):
        return "n" if op.op_type == "Mul" or kinds[1] == "r" else None
    if present in ({"n", "r"}, {"n", "s"}) and op.op_type in ("Add", "Sub") and kinds[0] == "n":
        return "n"
    if present == {"n", "r"} and op.op_type == "Add":
        return "n"
    if kinds == ["n"] and (op.op_type != "Div" or data[0] is op.inputs[0]):
        return "n"
    return None
