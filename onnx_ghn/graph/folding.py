"""Values of small constants, through the shape arithmetic that exporters write."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.graph.flat import Op, Tensor

__all__ = ["array_of", "ints_of", "makes_vector", "scalar_of"]

#: Constants above this many elements are never evaluated while reading a graph: shapes and axes are short.
_SMALL = 4096


def array_of(tensor: Tensor) -> Array | None:
    """The array, for small constants that simple shape arithmetic gives; None otherwise."""
    pending = [tensor]
    while pending:  # without recursion: constant arithmetic can be thousands of operators deep
        last = pending[-1]
        op = last.producer
        unknown: list[Tensor] = []
        if not last.is_folded and last.is_const and last.stored is None and op is not None:
            unknown = [t for t in op.inputs if t is not None and t.is_const and not t.is_folded]
        if unknown:
            pending.extend(unknown)
            continue
        if not last.is_folded:
            last.folded = _evaluated(last) if last.is_const else None
            last.is_folded = True
        pending.pop()
    return tensor.folded


def scalar_of(tensor: Tensor) -> float | None:
    """The number, for a constant of one element."""
    if tensor.stored is not None and math.prod(tensor.stored.shape) != 1:
        return None
    array = array_of(tensor)
    if array is None or array.size != 1 or np.iscomplexobj(array):
        return None
    return float(array.reshape(-1)[0])


def ints_of(tensor: Tensor) -> list[int] | None:
    """The numbers, for a small integer constant."""
    array = array_of(tensor)
    if array is None or np.iscomplexobj(array) or not np.isfinite(array.astype(np.float64)).all():
        return None
    return [int(number) for number in array.reshape(-1)]


def makes_vector(reshape: Op) -> bool:
    """Whether a Reshape gives a constant a shape of one axis, whose size is taken from the shape of data.

    So older versions of paddle2onnx see the scale and shift of a layer norm, by the last axes of what it normalises.
    """
    values, wanted = reshape.input(0), reshape.input(1)
    piece = wanted.producer if wanted is not None and not wanted.is_const else None
    if values is None or not values.is_const or piece is None or piece.op_type != "Slice":
        return False
    whole = piece.input(0)
    if whole is None or whole.producer is None or whole.producer.op_type != "Shape":
        return False
    bounds = [ints_of(each) for each in piece.inputs[1:3] if each is not None and each.is_const]
    if any(bound is None or len(bound) != 1 for bound in bounds) or len(bounds) != 2:
        return False
    (start,), (end,) = (bound or [0] for bound in bounds)
    data = whole.producer.input(0)
    rank = len(data.shape) if data is not None and data.shape is not None else None
    return start == -1 or end - start == 1 or (rank is not None and start == rank - 1)


def _evaluated(tensor: Tensor) -> Array | None:
    """One step of `array_of`: the arrays of the inputs are known."""
    if tensor.stored is not None:
        if math.prod(tensor.stored.shape) > _SMALL or tensor.stored.is_string:
            return None
        if tensor.stored.is_absent and tensor.stored.dtype.is_floating_point() and math.prod(tensor.stored.shape) > 1:
            return None  # weights, whose values decide nothing that has no answer without; shapes and settings raise
        return np.asarray(tensor.stored.numpy())
    op = tensor.producer
    if op is None or op.domain != "":
        return None
    values = [None if t is None else array_of(t) for t in op.inputs]
    if not values or any(v is None for t, v in zip(op.inputs, values, strict=True) if t is not None):
        return None
    try:
        with np.errstate(all="ignore"):
            result = _computed(op, values)
    except (ArithmeticError, LookupError, TypeError, ValueError):  # operands that do not fit: no shape arithmetic
        return None
    # Results feed further steps: without a bound each step could square the size.
    return None if result is None or result.size > _SMALL else result


def _computed(op: Op, values: list[Array | None]) -> Array | None:
    """One step of shape arithmetic; None for operators that are none."""
    first: Any = values[0]
    match op.op_type:
        case "Range":  # torch's new exporter: the axes of a group norm's Unsqueeze
            # As Python's numbers: the distance of two int64 may not be one.
            start, stop, step = (np.asarray(value).reshape(()).item() for value in values)
            return np.arange(start, stop, step) if (stop - start) / step <= _SMALL else None
        case "Identity" | "CastLike":
            return np.asarray(first)
        case "Cast":
            return np.asarray(first)
        case "Neg":
            return np.asarray(-first)
        case "Sqrt":
            return np.asarray(np.sqrt(first))
        case "Mul":
            return np.asarray(first * values[1])
        case "Div":
            integral = np.issubdtype(np.asarray(first).dtype, np.integer)
            return np.asarray(first // values[1]) if integral else np.asarray(first / values[1])
        case "Add":
            return np.asarray(first + values[1])
        case "Sub":
            return np.asarray(first - values[1])
        case "Greater":
            return np.asarray(first > values[1])
        case "Less":
            return np.asarray(first < values[1])
        case "Concat":
            return np.concatenate([np.atleast_1d(np.asarray(v)) for v in values], axis=0)
        case "Unsqueeze" | "Squeeze" | "Reshape":
            return np.asarray(first).reshape(-1) if op.op_type != "Squeeze" else np.squeeze(np.asarray(first))
        case "Gather":
            return np.asarray(np.take(np.asarray(first), np.asarray(values[1]), axis=op.attr("axis", 0)))
    return None
