"""Scales of quantised biases: a runtime adds a bias to sums of products, so that its scale has to be that of these.

A bias of 32-bit integers has the scale of its layer's input times that of the layer's weight. Runtimes that compute on
integers (onnxruntime's QLinearConv) never read the scale that the file stores for it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.arrays import Array

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["BiasScales", "bias_scales_of"]

Make = Callable[[], Array]

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm"})


@dataclasses.dataclass(frozen=True, eq=False)
class BiasScales:
    """The two stored scales whose product is the scale of a quantised bias.

    Attributes:
        input: of what the layer reads.
        weight: of its weight, which may change with the weight.
    """

    input: StoredTensor
    weight: StoredTensor

    def tensors(self, name: str, scale: StoredTensor, made: Mapping[str, Make]) -> dict[str, Make]:
        """Functions by stored name: the bias as multiples of the product, and the product itself.

        Args:
            name: of the bias.
            scale: of the bias, as it is stored.
            made: functions that give a bias and its scale, any that multiply to the floats; and scales of weights that
                change.
        """
        product = functools.partial(self._product, scale, made.get(self.weight.name, self.weight.numpy))
        return {
            name: functools.partial(_integers, made[name], made[scale.name], product),
            scale.name: product,
        }

    def _product(self, scale: StoredTensor, weight: Make) -> Array:
        found = np.asarray(self.input.numpy(), np.float32).reshape(-1) * np.asarray(weight(), np.float32).reshape(-1)
        return found.reshape(scale.shape).astype(scale.dtype.numpy())


def bias_scales_of(bias: StoredTensor, scale: StoredTensor, stored: Mapping[str, StoredTensor]) -> BiasScales | None:
    """The scales that a quantised bias goes by; None for what is no such bias.

    Args:
        stored: all tensors of the model.
    """
    if bias.dtype.numpy() != np.int32:
        return None
    readers = [use.node for use in bias.value.uses()]
    for layer in (use.node for reader in readers for value in reader.outputs for use in value.uses()):
        if layer.op_type not in _LAYERS or len(layer.inputs) < 3:
            continue
        given, weight = (_scale_of(value, stored) for value in layer.inputs[:2])
        if given is None or weight is None or math.prod(given.shape) != 1:
            continue
        if math.prod(weight.shape) == math.prod(scale.shape):
            return BiasScales(given, weight)
    return None


def _scale_of(value: ir.Value | None, stored: Mapping[str, StoredTensor]) -> StoredTensor | None:
    """The stored scale of the DequantizeLinear that gives a value."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "DequantizeLinear" or node.inputs[1] is None:
        return None
    scale = stored.get(node.inputs[1].name or "")
    return scale if scale is not None and scale.value is node.inputs[1] else None


def _integers(bias: Make, scale: Make, product: Make) -> Array:
    limits = np.iinfo(np.int32)
    floats = bias().astype(np.float64) * scale()
    found: Array = np.rint(floats / product()).clip(limits.min, limits.max).astype(np.int32)
    return found
