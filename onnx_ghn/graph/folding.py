"""Values of small constants, through the shape arithmetic that exporters write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx_ghn.graph.flatten import Op, Tensor

__all__ = ["evaluate"]

#: Constants above this many elements are never evaluated while reading a graph: shapes and axes are short.
_SMALL = 4096


def evaluate(tensor: Tensor) -> npt.NDArray[Any] | None:
    """Small constants, through the shape arithmetic that exporters write."""
    if tensor.stored is not None:
        if tensor.stored_size() > _SMALL or tensor.stored.is_string:
            return None
        return np.asarray(tensor.stored.numpy())
    op = tensor.producer
    if op is None or op.domain != "":
        return None
    values = [None if t is None else t.value() for t in op.inputs]
    if not values or any(v is None for t, v in zip(op.inputs, values, strict=True) if t is not None):
        return None
    try:
        with np.errstate(all="ignore"):
            found = _computed(op, values)
    except (ArithmeticError, LookupError, TypeError, ValueError):  # operands that do not fit: no shape arithmetic
        return None
    # Results feed further steps: without a bound each step could square the size.
    return None if found is None or found.size > _SMALL else found


def _computed(op: Op, values: list[npt.NDArray[Any] | None]) -> npt.NDArray[Any] | None:
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
        case "Concat":
            return np.concatenate([np.atleast_1d(np.asarray(v)) for v in values], axis=0)
        case "Unsqueeze" | "Squeeze" | "Reshape":
            return np.asarray(first).reshape(-1) if op.op_type != "Squeeze" else np.squeeze(np.asarray(first))
        case "Gather":
            return np.asarray(np.take(np.asarray(first), np.asarray(values[1]), axis=op.attr("axis", 0)))
    return None
