"""Small arrays of numbers that a model computes with: sizes, axes, indices. What decides shapes has to be known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.graph.flat import Op

__all__ = ["computed", "float_attr"]

_SMALL = 4096  # elements of an array that is followed
#: How many inputs are not optional, of operators with others that are.
_NEEDED = {"Clip": 1, "Slice": 3, "Squeeze": 1, "Unsqueeze": 1}


def float_attr(op: Op, name: str, default: float) -> float:
    """A number that an operator is given."""
    attribute = op.attributes.get(name)
    return float(attribute.value) if attribute is not None and attribute.value is not None else default


def computed(op: Op, values: list[Array | None], shapes: list[tuple[int, ...] | None]) -> Array | None:
    """What an operator gives, where it is simple arithmetic on small arrays."""
    if op.op_type == "Shape" and shapes and shapes[0] is not None:
        whole = np.array(shapes[0], np.int64)
        return whole[op.attr("start", 0) : op.attr("end", len(whole))]
    if op.op_type == "Size" and shapes and shapes[0] is not None:
        return np.array(math.prod(shapes[0]), np.int64)
    if not values or any(value is None for given, value in zip(op.inputs, values, strict=True) if given is not None):
        return None
    if any(given is None for given in op.inputs[: _NEEDED.get(op.op_type, len(op.inputs))]):
        return None
    try:
        with np.errstate(all="ignore"):
            result = _result(op, values)
    except (IndexError, OverflowError, TypeError, ValueError, ZeroDivisionError):
        return None  # numpy's TypeError is of types that an operator does not take: a size that is no whole number
    return result if result is not None and result.size <= _SMALL else None


def _result(op: Op, values: list[Any]) -> Array | None:
    first: Any = values[0]
    second: Any = values[1] if len(values) > 1 else None
    match op.op_type:
        case "Identity" | "CastLike":
            return np.asarray(first)
        case "Cast":
            is_whole, is_float = op.attr("to", 1) in (6, 7, 9), op.attr("to", 1) in (1, 10, 11, 16)
            return np.asarray(first).astype(
                np.int64 if is_whole else np.float64 if is_float else np.asarray(first).dtype
            )
        case "Neg":
            return np.asarray(-first)
        case "Abs":
            return np.asarray(np.abs(first))
        case "Sqrt":
            return np.asarray(np.sqrt(first))
        case "Floor":
            return np.asarray(np.floor(first))
        case "Ceil":
            return np.asarray(np.ceil(first))
        case "Round":
            return np.asarray(np.round(first))
        case "Clip":  # padding that keeps a map's size, as timm writes it
            low, high = (
                values[index] if len(values) > index and values[index] is not None else float_attr(op, name, default)
                for index, name, default in ((1, "min", -math.inf), (2, "max", math.inf))
            )
            return np.asarray(np.minimum(np.maximum(first, low), high), np.asarray(first).dtype)
        case "Not":
            return np.asarray(np.logical_not(first))
        case "Add":
            return np.asarray(first + second)
        case "Sub":
            return np.asarray(first - second)
        case "Mul":
            return np.asarray(first * second)
        case "Div":
            whole = np.issubdtype(np.asarray(first).dtype, np.integer)
            return np.asarray(first // second) if whole else np.asarray(first / second)
        case "Pow":
            whole = np.issubdtype(np.asarray(first).dtype, np.integer)
            power = np.power(np.asarray(first, np.float64), second)
            return np.asarray(np.trunc(power).astype(np.int64) if whole else power)
        case "Mod":
            return np.asarray(np.mod(first, second))
        case "Max":
            return np.asarray(np.maximum.reduce(np.broadcast_arrays(*values)))
        case "Min":
            return np.asarray(np.minimum.reduce(np.broadcast_arrays(*values)))
        case "Equal":
            return np.asarray(first == second)
        case "Less":
            return np.asarray(first < second)
        case "LessOrEqual":
            return np.asarray(first <= second)
        case "GreaterOrEqual":
            return np.asarray(first >= second)
        case "Greater":
            return np.asarray(first > second)
        case "Where":
            return np.asarray(np.where(first, second, values[2]))
        case "Concat":
            return np.concatenate([np.atleast_1d(value) for value in values], op.attr("axis", 0))
        case "Gather":
            return np.asarray(np.take(first, second, op.attr("axis", 0)))
        case "Range":
            start, stop, step = (np.asarray(value).reshape(()).item() for value in values)
            return np.arange(start, stop, step) if step and abs((stop - start) / step) <= _SMALL else None
        case "ConstantOfShape":
            if math.prod(int(size) for size in np.asarray(first).reshape(-1)) > _SMALL:
                return None
            given = op.attributes.get("value")
            fill = np.zeros(1, np.float32) if given is None else given.as_tensor().numpy()
            return np.full([int(size) for size in first], fill.reshape(-1)[0])
        case "Transpose":
            return np.asarray(np.transpose(first, op.attr("perm")))
        case "Reshape":
            return np.asarray(first).reshape([int(size) for size in second])
        case "Expand":
            shape = np.broadcast_shapes(np.shape(first), tuple(int(size) for size in second))
            return np.broadcast_to(first, shape) if math.prod(shape) <= _SMALL else None
        case "Unsqueeze":
            axes = op.attr("axes") if second is None else [int(axis) for axis in np.reshape(second, -1)]
            return np.asarray(np.expand_dims(first, tuple(axes or ())))
        case "Squeeze":
            axes = op.attr("axes") if second is None else [int(axis) for axis in np.reshape(second, -1)]
            return np.asarray(np.squeeze(first, None if axes is None else tuple(axes)))
        case "ReduceProd":
            return np.atleast_1d(np.prod(first)) if op.attr("keepdims", 1) else np.asarray(np.prod(first))
        case "Slice" if len(values) >= 3:
            given_axes = None if len(values) < 4 else values[3]
            cut_axes = list(range(len(second))) if given_axes is None else [int(axis) for axis in given_axes]
            steps = [1] * len(second) if len(values) < 5 or values[4] is None else [int(s) for s in values[4]]
            cut = [slice(None)] * np.ndim(first)
            for axis, start, stop, step in zip(cut_axes, second, values[2], steps, strict=True):
                end = None if step < 0 and stop < -np.shape(first)[axis] else int(stop)
                cut[axis] = slice(int(start), end, step)
            return np.asarray(first[tuple(cut)])
    return None
