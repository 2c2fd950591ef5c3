"""Where a linear weight's inputs are a flattened map: the channels and positions that they stand for."""

from __future__ import annotations

from typing import NamedTuple

from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.graph.folding import ints_of
from onnx_ghn.graph.parameter import Flattened
from onnx_ghn.graph.weights import static_shape

__all__ = ["flattened_map"]

#: Operators whose output has the channels and the order of axes of their data.
_SAME = frozenset(
    {
        *("Identity", "Cast", "Dropout", "QuantizeLinear", "DequantizeLinear", "Pad", "Resize", "LRN"),
        *("Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "Swish", "HardSwish"),
        *("Sigmoid", "HardSigmoid", "Tanh", "Clip", "Softplus", "Softsign", "Add", "Sub", "Sum", "Mul", "Div"),
        *("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"),
    }
)
#: Operators that make a map of channels, these being axis 1; the first axis of their second input tells how many.
_MAKES_MAP = frozenset({"Conv", "FusedConv", "BatchNormalization", "InstanceNormalization"})
_DEEPEST = 32  # concatenations in concatenations


class _Map(NamedTuple):
    """Of a map: how many channels, their axis, and its rank where that is known."""

    channels: int
    axis: int
    rank: int | None


def flattened_map(data: Tensor | None, n_inputs: int) -> Flattened | None:
    """How the last axis of a value is made of the channels and positions of a map.

    Args:
        data: what a Gemm or a MatMul multiplies with its weight.
        n_inputs: the length of its last axis.

    Returns:
        None where the value is no flattened map, or one of a single position. Maps are what convolutions and batch
        norms give; flattened images have channels of no meaning but their own.
    """
    flat = _flattening(data)
    origin = _channels(flat.input(0), {}) if flat is not None else None
    if origin is None:
        return None
    n_positions, rest = divmod(n_inputs, origin.channels) if origin.channels else (0, 1)
    if rest or n_positions < 2 or not (origin.axis == 1 or origin.axis + 1 == origin.rank):
        return None
    return Flattened(n_positions, channels_last=origin.axis != 1)


def _flattening(data: Tensor | None) -> Op | None:
    """The operator that makes a value a matrix of one row a sample, functions of each element aside."""
    while data is not None and data.producer is not None and not data.is_const:
        op = data.producer
        if op.op_type == "Flatten":
            return op if op.attr("axis", 1) == 1 else None
        if op.op_type == "Reshape":
            shape = op.outputs[0].shape
            if shape is not None:
                return op if len(shape) == 2 else None
            return op if (_length(op.input(1)) if op.input(1) else len(op.attr("shape", []))) == 2 else None
        if op.op_type not in _SAME:
            return None
        data = _data_input(op)
    return None


def _length(vector: Tensor | None) -> int | None:
    """How many numbers a computed shape has, so far as operators tell (batches of unknown size are computed)."""
    vector = _uncast(vector)
    op = vector.producer if vector is not None else None
    if op is None or op.op_type != "Concat":
        return _part_length(vector)
    parts = [_part_length(part) for part in op.inputs]
    return None if None in parts else sum(part or 0 for part in parts)


def _uncast(value: Tensor | None) -> Tensor | None:
    while value is not None and value.producer is not None and value.producer.op_type in ("Cast", "Identity"):
        value = value.producer.input(0)
    return value


def _part_length(vector: Tensor | None) -> int | None:
    """`_length` of what exporters join to a shape. Joined shapes in joined shapes are not followed: paths multiply."""
    vector = _uncast(vector)
    if vector is None:
        return None
    known = ints_of(vector) if vector.is_const else None
    if known is not None:
        return len(known)
    if vector.shape is not None and len(vector.shape) == 1 and vector.shape[0] is not None:
        return vector.shape[0]
    op = vector.producer
    if op is None:
        return None
    match op.op_type:
        case "Unsqueeze":  # of a number
            return 1
        case "Gather":
            indices = op.input(1)
            chosen = ints_of(indices) if indices is not None else None
            return None if chosen is None else len(chosen)
        case "Slice":
            start, end = (
                ints_of(tensor) if tensor is not None else op.attr(name)
                for tensor, name in ((op.input(1), "starts"), (op.input(2), "ends"))
            )
            # A large end stands for the rest, whose length nobody says.
            return end[0] - start[0] if start and end and 0 <= start[0] < end[0] < 8 else None
        case "Shape":
            return op.attr("end", 0) - op.attr("start", 0) if op.attr("end", -1) > 0 else None
    return None


def _channels(value: Tensor | None, known: dict[Tensor | None, _Map | None], depth: int = 0) -> _Map | None:
    """The channels of a map; None for any other value. `known` keeps it: concatenations share parts."""
    if value not in known:
        known[value] = None if depth > _DEEPEST else _origin(value, known, depth)
    return known[value]


def _origin(value: Tensor | None, known: dict[Tensor | None, _Map | None], depth: int) -> _Map | None:
    moves: list[Op] = []  # of axes, the last first
    origin: _Map | None = None
    while origin is None:
        op = value.producer if value is not None and not value.is_const else None
        if op is None:
            return None
        if op.op_type in ("Transpose", "Unsqueeze", "Squeeze"):
            moves.append(op)
            value = op.input(0)
        elif op.op_type in _SAME:
            value = _data_input(op)
        elif op.op_type in _MAKES_MAP:
            kernel = op.input(1)
            shape = static_shape(kernel) if kernel is not None else None
            if not shape:
                return None
            origin = _Map(shape[0], 1, None)
        else:
            origin = _joined(op, known, depth) if op.op_type == "Concat" else None
            if origin is None:
                return None
    while moves and origin is not None:
        origin = _moved(origin, moves.pop())
    return origin


def _moved(given: _Map, op: Op) -> _Map | None:
    """A map after its axes are permuted, or axes of one element added or left out (max pools of JAX)."""
    if op.op_type == "Transpose":
        perm = op.attr("perm", [])
        return _Map(given.channels, perm.index(given.axis), len(perm)) if given.axis in perm else None
    axes_input = op.input(1)
    axes = ints_of(axes_input) if axes_input is not None else op.attr("axes")
    if not axes or min(axes) < 0:
        return None
    if op.op_type == "Unsqueeze":
        old_axes = [axis for axis in range(given.axis + len(axes) + 1) if axis not in axes]
        return _Map(given.channels, old_axes[given.axis], given.rank + len(axes) if given.rank else None)
    if given.axis in axes:
        return None
    rank = given.rank - len(axes) if given.rank else None
    return _Map(given.channels, given.axis - sum(axis < given.axis for axis in axes), rank)


def _joined(op: Op, known: dict[Tensor | None, _Map | None], depth: int) -> _Map | None:
    """Maps joined along their channels. Parts of other kinds count where the file has the shape of the whole."""
    parts = [_channels(part, known, depth + 1) for part in op.inputs]
    maps = [part for part in parts if part is not None]
    if not maps:
        return None
    _, axis, rank = maps[0]
    shape = op.outputs[0].shape
    rank = rank or (len(shape) if shape is not None else None)
    joined_at = op.attr("axis", 1)
    if joined_at < 0 and rank:
        joined_at += rank
    if joined_at != axis or any(other.axis != axis for other in maps):
        return None
    whole = shape[axis] if shape is not None and axis < len(shape) else None
    if whole is None and len(maps) == len(parts):
        whole = sum(part.channels for part in maps)
    return _Map(whole, axis, rank) if whole else None


def _data_input(op: Op) -> Tensor | None:
    """The first input that is no constant."""
    return next((tensor for tensor in op.inputs if tensor is not None and not tensor.is_const), None)
