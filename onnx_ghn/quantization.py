"""Predicted values for tensors that a model stores quantised, behind DequantizeLinear."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.graph import Parameter

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["quantized"]

Array = npt.NDArray[Any]


def quantized(
    model: ir.Model, parameter: Parameter, make: Callable[[], Array]
) -> dict[str, Callable[[], Array]] | str:
    """New integers and new scales for a quantised tensor; the zero points stay.

    The scale of each channel (or of the tensor) becomes max|w| / the largest magnitude that the zero point leaves.

    Args:
        make: gives the predicted float values, of the stored shape.

    Returns:
        functions by stored name; or, in words, why the tensor has to be kept.
    """
    from onnx_ghn.onnx_io import stored_tensors

    stored = stored_tensors(model)
    scale = stored.get(parameter.scale_name or "")
    if scale is None:
        return "quantised, and its scale is not stored in the model"
    if len(scale.value.uses()) > 1:
        return "quantised, and its scale is shared with another tensor"
    dtype = np.dtype(stored[parameter.name].dtype.numpy())
    if not np.issubdtype(dtype, np.integer):
        return f"quantised to {parameter.dtype}"
    limits = np.iinfo(dtype)
    axis = parameter.quantization_axis or 0
    if scale.shape not in ((), (1,)):
        if len(scale.shape) != 1 or axis >= len(parameter.shape) or scale.shape[0] != parameter.shape[axis]:
            return "quantised in blocks"
        others = tuple(i for i in range(len(parameter.shape)) if i != axis % len(parameter.shape))
        broadcast: tuple[int, ...] = tuple(
            parameter.shape[axis] if i == axis % len(parameter.shape) else 1 for i in range(len(parameter.shape))
        )
    else:
        others, broadcast = tuple(range(len(parameter.shape))), (1,) * len(parameter.shape)
    zero_stored = stored.get(parameter.zero_point_name or "")
    zero = np.zeros(scale.shape, np.int64) if zero_stored is None else np.asarray(zero_stored.numpy(), np.int64)
    room = np.minimum(limits.max - zero, zero - limits.min).clip(min=1)

    def scales() -> Array:
        widest = np.abs(make()).max(axis=others).reshape(scale.shape)
        return np.where(widest > 0, widest / room, 1.0).astype(np.float32)

    def integers() -> Array:
        rounded = np.round(np.asarray(make(), np.float64) / scales().reshape(broadcast)) + zero.reshape(broadcast)
        return rounded.clip(limits.min, limits.max).astype(dtype)

    return {parameter.name: integers, scale.name: scales}
