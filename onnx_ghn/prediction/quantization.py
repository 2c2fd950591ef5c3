"""Predicted values for tensors that a model stores quantised, behind DequantizeLinear."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.arrays import Array
from onnx_ghn.graph import Parameter, Role
from onnx_ghn.graph.weights import QUANTISES
from onnx_ghn.onnx_io.view_operators import VIEW_OPERATORS
from onnx_ghn.prediction.quantized_biases import BiasScales, bias_scales_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["Quantization", "quantization_of"]

Make = Callable[[], Array]

_PART = 1 << 20  # elements quantised at once
_FEW = 64  # elements of a channel that mostly settle whether all are multiples of a scale
_MOST_STEPS = 128  # to either side, of 8 bits; with more, rounding is finer than floats
_FLOATS = {"float8_e4m3fn": 448, "float8_e5m2": 57344}  # types of 8 bits that are filled, with their largest number
_MANY = 1 << 20  # the largest number of a type that holds any sensible bias as multiples of a scale
_NEAR = 1e-3  # steps that rounding to 32 bits may set a multiple apart from a whole number


@dataclasses.dataclass(frozen=True, eq=False)
class Quantization:
    """How a tensor's float values become the integers that a model stores, and the scales that go with them.

    The scale of each channel (or of the tensor) becomes the smallest that represents all of it, unless what is to be
    stored are multiples of the scale that there is; zero points stay.
    """

    stored: StoredTensor
    dtype: npt.DTypeLike  # that it is stored in
    in_file: bool  # stored as floats, which the file itself quantises (QuantizeLinear, then DequantizeLinear)
    scale: StoredTensor
    broadcast: tuple[int, ...]  # the scale's shape against the tensor's axes
    steps: np.dtype[Any]  # whose numbers are multiplied by the scale: integers, or floats of 8 bits
    limits: tuple[int, int]  # smallest and largest number of that type
    zero: npt.NDArray[np.int64]  # zero points, of shape `broadcast`
    bias: BiasScales | None = None  # of a bias whose scale is that of its layer's input times that of its weight

    def tensors(self, make: Make) -> dict[str, Make]:
        """Functions by stored name: the tensor (integers, or floats that the file quantises) and its scale.

        Args:
            make: gives the float values, of the stored shape.
        """
        values = (
            functools.partial(_floats, make, self.dtype) if self.in_file else functools.partial(self._integers, make)
        )
        return {self.stored.name: values, self.scale.name: functools.partial(self._scales, make)}

    def floats(self, integers: Array) -> Array:
        """What the model stores now, as the floats that it stands for."""
        if self.in_file:
            return integers
        scale = np.asarray(self.scale.numpy(), np.float64).reshape(self.broadcast)
        values: Array = ((integers.astype(np.float64) - self.zero) * scale).astype(np.float32)
        return values

    @functools.cached_property
    def _range(self) -> tuple[int, int]:
        """The smallest and largest integer that is used: of 8 bits, seven where the file uses no more.

        Sums of two products of 8 bits overflow 16 in the kernels of x86 processors without VNNI instructions; files
        for these are quantised with a reduced range (onnxruntime's `reduce_range`), which is to stay.
        """
        lowest, highest = (-64, 64) if self.limits[0] < 0 else (0, 127)
        if self.limits[1] - self.limits[0] != 255:
            return self.limits
        if self.in_file:  # the tools that write such files leave out what has no counterpart of the other sign
            return (-127, 127) if self.limits[0] < 0 and not self.zero.any() else self.limits
        if (self.zero <= lowest).any() or (self.zero >= highest).any():
            return self.limits
        values = self.stored.numpy()
        is_reduced = values.any() and int(values.min()) >= lowest and int(values.max()) <= highest
        return (lowest, highest) if is_reduced else self.limits

    def _scales(self, make: Make) -> Array:
        values = make()
        if self._fits(values):
            return np.asarray(self.scale.numpy())
        others = tuple(i for i, size in enumerate(self.broadcast) if size == 1)
        highest = values.max(axis=others, keepdims=True).clip(min=0)
        lowest = values.min(axis=others, keepdims=True).clip(max=0)
        sides = ((highest, self._range[1] - self.zero), (-lowest, self.zero - self._range[0]))
        # Where a side has no room, what lies there becomes zero.
        needed = np.maximum(*(np.where(room > 0, end / np.maximum(room, 1), 0) for end, room in sides))
        needed = self._exact(values, highest, lowest, needed)
        scales: Array = np.where(needed > 0, needed, 1.0).reshape(self.scale.shape).astype(self.scale.dtype.numpy())
        return scales

    def _exact(self, values: Array, highest: Array, lowest: Array, needed: Array) -> Array:
        """The scales of which all values of a channel are multiples, as those of a quantised file are: none is rounded
        again. Where there is none, those that are needed.

        Args:
            values: in the stored shape.
            highest, lowest, needed: by channel, in a shape that goes with that of the values.
        """
        axis = next((i for i, size in enumerate(self.broadcast) if size > 1), None)
        rows = values.reshape(1, -1) if axis is None else np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        top, bottom = (ends.reshape(-1).astype(np.float64) for ends in (highest, -lowest))
        largest = np.maximum(top, bottom)
        found = needed.reshape(-1).astype(np.float64)
        is_open = (largest > 0) & (self.zero.reshape(-1) == 0)
        few = rows[:, :_FEW].astype(np.float64)
        most = -self._range[0]
        if most > _MOST_STEPS or not is_open.any():
            return needed
        for steps in range(most, most // 2, -1):
            by = np.where(is_open, largest / steps, 1.0)
            fits = is_open & (top <= (self._range[1] + _NEAR) * by) & (bottom <= (most + _NEAR) * by)
            fits[fits] = _are_multiples(few[fits], by[fits])
            for row in np.flatnonzero(fits):
                if _are_multiples(rows[row : row + 1], by[row : row + 1])[0]:
                    found[row], is_open[row] = by[row], False
        exact: Array = found.reshape(needed.shape)
        return exact

    def _fits(self, values: Array) -> bool:
        """Whether values are multiples of the stored scale already, as those of the same file are."""
        is_wide = self.limits[1] > _MANY  # a bias, whose scale is that of the sums that it is added to
        if self.scale.is_absent or (self.in_file and not is_wide):
            return False
        by = np.asarray(self.scale.numpy(), np.float32).reshape(self.broadcast)
        if self.in_file:
            return bool((np.abs(values) <= by * self.limits[1]).all())
        steps = self._rounded(values / np.where(by == 0, 1, by))
        lowest, highest = (limit - self.zero for limit in self._range)
        return bool(((steps >= lowest) & (steps <= highest) & (steps.astype(np.float32) * by == values)).all())

    def _integers(self, make: Make) -> Array:
        # As stored: a half-precision scale has been rounded.
        by = self._scales(make).astype(np.float32).reshape(self.broadcast)
        values = np.asarray(make(), np.float32)
        new = np.empty(values.shape, self.dtype)
        for start in range(0, len(values), step := max(1, _PART // max(1, values[:1].size))):
            part = slice(start, start + step)  # what is computed from it stays small
            by_part, zero_part = (a[part] if len(a) > 1 else a for a in (by, self.zero))
            new[part] = (self._rounded(values[part] / by_part) + zero_part).clip(*self._range)
        return new

    def _rounded(self, steps: Array) -> Array:
        """The nearest numbers that the type has, as float32."""
        if np.issubdtype(self.steps, np.integer):
            return np.rint(steps)
        return np.asarray(steps, np.float32).clip(*self.limits).astype(self.steps).astype(np.float32)


def _are_multiples(rows: Array, by: Array) -> Array:
    """Of each row, whether all its values are multiples of a number."""
    steps = rows.astype(np.float64) / by[:, None]
    return np.asarray((np.abs(steps - np.rint(steps)) < _NEAR).all(axis=1))


def quantization_of(stored: Mapping[str, StoredTensor], parameter: Parameter) -> Quantization | str:
    """How a quantised parameter is stored; or, in words, why it has to be kept.

    Args:
        stored: all tensors of the model.
    """
    scale = stored.get(parameter.scale_name or "")
    if scale is None:
        return "quantised, and its scale is not stored in the model"
    tensor, zero_stored = stored[parameter.name], stored.get(parameter.zero_point_name or "")
    dtype = np.dtype(tensor.dtype.numpy())
    in_file = tensor.dtype.is_floating_point() and dtype.itemsize > 1
    if sum(not (in_file and _quantizes(use.node, parameter.name)) for use in scale.value.uses()) > 1:
        return "quantised, and its scale is shared with another tensor"
    steps = dtype if not in_file else _steps_in_file(parameter, scale, zero_stored)
    limits = _limits(steps)
    quant = _quant_of(scale)
    if quant is not None:
        steps, limits = np.dtype(np.int64), _limits_of_quant(quant, stored)
    if limits is None:
        return f"quantised to {steps.name}"
    axis = parameter.quantization_axis
    if scale.shape in ((), (1,)) or (quant is not None and math.prod(scale.shape) == 1):
        broadcast = (1,) * len(parameter.shape)
    elif axis is None:
        return "quantised by channels that are no axis of what is stored"
    elif (len(scale.shape) == 1 or quant is not None) and _goes_with(scale.shape, parameter.shape, axis):
        broadcast = tuple(size if i == axis else 1 for i, size in enumerate(parameter.shape))
    else:
        return "quantised in blocks"
    zero = np.zeros(scale.shape, np.int64) if zero_stored is None else zero_stored.numpy().astype(np.int64)
    zero = np.broadcast_to(zero.reshape(-1), (max(1, int(np.prod(scale.shape))),)).reshape(broadcast)
    has_both = (zero > limits[0]).all() and (zero < limits[1]).all()
    if not (has_both or _may_have_one_sign(parameter.role, bool((zero < limits[1]).all()))):
        return "quantised with a zero point that leaves no room for both signs"
    return Quantization(
        stored=tensor,
        dtype=dtype,
        in_file=in_file,
        scale=scale,
        broadcast=broadcast,
        steps=steps,
        limits=limits,
        zero=zero,
        bias=bias_scales_of(tensor, scale, stored),
    )


def _goes_with(scales: tuple[int, ...], shape: tuple[int, ...], axis: int) -> bool:
    """Whether there is one scale for each element along an axis."""
    return axis < len(shape) and max(scales) == math.prod(scales) == shape[axis]


def _quant_of(scale: StoredTensor) -> ir.Node | None:
    """The operator of QONNX that quantises by a scale, if one does."""
    return next((use.node for use in scale.value.uses() if use.node.op_type in QUANTISES and use.idx == 1), None)


def _limits_of_quant(node: ir.Node, stored: Mapping[str, StoredTensor]) -> tuple[int, int] | None:
    """The smallest and the largest number that such an operator rounds to; None where its bits are not stored."""
    given = node.inputs[3] if len(node.inputs) > 3 else None
    bits = next((tensor for tensor in stored.values() if tensor.value is given), None)
    if bits is None or bits.is_absent or math.prod(bits.shape) != 1:
        return None
    n, narrow = float(bits.numpy().reshape(-1)[0]), node.attributes.get_int("narrow", 0)
    if not 2 <= n <= 32 or n != int(n):
        return None
    if node.attributes.get_int("signed", 1):
        return narrow - (1 << (int(n) - 1)), (1 << (int(n) - 1)) - 1
    return 0, (1 << int(n)) - 1 - narrow


def _may_have_one_sign(role: Role, has_positive: bool) -> bool:
    """Whether a tensor of a role can be filled though its zero point leaves room for one sign alone.

    The scales of norms are positive, those that are predicted too. Biases start from zero, which is always there; of
    predicted ones those of the other sign become zero.
    """
    return role in (Role.bias, Role.norm_bias) or (role is Role.norm_scale and has_positive)


def _limits(steps: np.dtype[Any]) -> tuple[int, int] | None:
    """The smallest and the largest number of a type that values are divided into; None of one that is not filled."""
    if np.issubdtype(steps, np.integer):
        limits = np.iinfo(steps)
        return int(limits.min), int(limits.max)
    largest = _FLOATS.get(steps.name)
    return None if largest is None else (-largest, largest)


def _steps_in_file(parameter: Parameter, scale: StoredTensor, zero: StoredTensor | None) -> np.dtype[Any]:
    """The type into which a file quantises its own floats: that of the zero point, else what the operator says."""
    if zero is not None:
        return np.dtype(zero.dtype.numpy())
    nodes = [use.node for use in scale.value.uses() if _quantizes(use.node, parameter.name)]
    told = nodes[0].attributes.get_int("output_dtype", 0) if nodes else 0
    return np.dtype(type(scale.dtype)(told).numpy() if told else np.uint8)


def _quantizes(node: ir.Node, name: str) -> bool:
    """Whether a node that reads a scale quantises that very tensor by it, be it turned first."""
    quantised = node.inputs[0] if node.op_type == "QuantizeLinear" else None
    while quantised is not None and quantised.name != name:
        view = quantised.producer()
        quantised = view.inputs[0] if view is not None and view.op_type in VIEW_OPERATORS else None
    return quantised is not None


def _floats(make: Make, dtype: npt.DTypeLike) -> Array:
    return np.asarray(make()).astype(dtype, copy=False)
