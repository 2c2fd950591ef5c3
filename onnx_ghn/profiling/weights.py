"""How many weights a stored tensor holds: floats, quantised weights, and several weights in a byte."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import onnx

__all__ = ["BITS", "Reader", "n_weights"]

#: An operator that reads the tensor, its attributes, and which of its inputs the tensor is.
Reader = tuple[str, Mapping[str, object], int]

#: Element types that share a byte.
BITS = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}
_ALWAYS = frozenset({"INT8", "UINT8", *BITS})
_FLOATS = ("FLOAT", "DOUBLE", "BFLOAT", "COMPLEX")
#: Inputs at which wider integers are weights as well: biases of quantised layers.
_BIASES = frozenset({("QLinearConv", 8), ("QGemm", 6), ("DequantizeLinear", 0)})
#: Inputs whose bytes hold several weights: the attribute that has the bits of one, and its default.
_PACKED = {("QMoE", index): ("expert_weight_bits", 4) for index in (2, 5, 8)}
_PACKED |= {("GatherBlockQuantized", 0): ("bits", 4)}


def n_weights(element_type: int, shape: tuple[int, ...], readers: Iterable[Reader] = ()) -> int:
    """Weights in a tensor; 0 for shapes, axes, indices and masks, which are no weights.

    Scales and zero points count as they are stored.

    Args:
        element_type: TensorProto's.
    """
    kind = onnx.TensorProto.DataType.Name(element_type)
    stored = math.prod(shape)
    if kind.startswith(_FLOATS):
        return stored
    if kind not in _ALWAYS:
        wide = kind in ("INT16", "UINT16", "INT32")
        return stored if wide and any((op_type, index) in _BIASES for op_type, _, index in readers) else 0
    for op_type, attributes, index in readers:
        if op_type in ("MatMulNBits", "MatMulBnb4") and index == 1:
            width, height = attributes.get("K"), attributes.get("N")
            if isinstance(width, int) and isinstance(height, int):
                return width * height
        packed = _PACKED.get((op_type, index))
        if packed is not None and kind in ("INT8", "UINT8"):
            bits = attributes.get(packed[0], packed[1])
            return stored * 8 // bits if isinstance(bits, int) and bits > 0 else stored
    return stored
