"""Predicted values for tensors that a model stores quantised, behind DequantizeLinear."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.graph import Parameter

if TYPE_CHECKING:
    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["quantized"]

Array = npt.NDArray[Any]

_PART = 1 << 20  # elements quantised at once


def quantized(
    stored: Mapping[str, StoredTensor], parameter: Parameter, make: Callable[[], Array]
) -> dict[str, Callable[[], Array]] | str:
    """New integers and new scales for a quantised tensor; the zero points stay.

    The scale of each channel (or of the tensor) becomes the smallest that represents all of it. A float tensor that
    the file itself quantises (QuantizeLinear, then DequantizeLinear) gets its float values, and the scale that
    these need.

    Args:
        stored: all tensors of the model.
        make: gives the predicted float values, of the stored shape.

    Returns:
        functions by stored name; or, in words, why the tensor has to be kept.
    """
    scale = stored.get(parameter.scale_name or "")
    if scale is None:
        return "quantised, and its scale is not stored in the model"
    dtype = np.dtype(stored[parameter.name].dtype.numpy())
    zero_stored = stored.get(parameter.zero_point_name or "")
    in_file = stored[parameter.name].dtype.is_floating_point()
    if sum(not (in_file and _quantizes(use, parameter.name)) for use in scale.value.uses()) > 1:
        return "quantised, and its scale is shared with another tensor"
    steps = dtype if not in_file else np.dtype(np.uint8 if zero_stored is None else zero_stored.dtype.numpy())
    if not np.issubdtype(steps, np.integer):
        return f"quantised to {steps.name}"
    axis = (parameter.quantization_axis or 0) % max(len(parameter.shape), 1)
    if scale.shape in ((), (1,)):
        broadcast = (1,) * len(parameter.shape)
    elif len(scale.shape) == 1 and len(parameter.shape) > axis and scale.shape[0] == parameter.shape[axis]:
        broadcast = tuple(size if i == axis else 1 for i, size in enumerate(parameter.shape))
    else:
        return "quantised in blocks"
    limits = np.iinfo(steps)
    zero = np.zeros(scale.shape, np.int64) if zero_stored is None else np.asarray(zero_stored.numpy(), np.int64)
    zero = np.broadcast_to(zero.reshape(-1), (max(1, int(np.prod(scale.shape))),)).reshape(broadcast)
    above, below = limits.max - zero, zero - limits.min  # steps on either side of 0
    if not (above.all() and below.all()):
        return "quantised with a zero point that leaves no room for both signs"
    others = tuple(i for i, size in enumerate(broadcast) if size == 1)
    scale_type = np.dtype(scale.dtype.numpy())

    def scales() -> Array:
        values = make()
        highest = values.max(axis=others, keepdims=True).clip(min=0)
        lowest = values.min(axis=others, keepdims=True).clip(max=0)
        needed = np.maximum(highest / above, -lowest / below)
        return np.where(needed > 0, needed, 1.0).reshape(scale.shape).astype(scale_type)

    def integers() -> Array:
        by = scales().astype(np.float32).reshape(broadcast)  # as stored: a half-precision scale has been rounded
        values = np.asarray(make(), np.float32)
        new = np.empty(values.shape, dtype)
        for start in range(0, len(values), step := max(1, _PART // max(1, values[:1].size))):
            part = slice(start, start + step)  # what is computed from it stays small
            by_part, zero_part = (a[part] if len(a) > 1 else a for a in (by, zero))
            new[part] = (np.rint(values[part] / by_part) + zero_part).clip(limits.min, limits.max)
        return new

    return {parameter.name: make if in_file else integers, scale.name: scales}


def _quantizes(use: Any, name: str) -> bool:
    """Whether a scale is used there to quantise that very tensor."""
    return use.node.op_type == "QuantizeLinear" and use.node.inputs[0] is not None and use.node.inputs[0].name == name
