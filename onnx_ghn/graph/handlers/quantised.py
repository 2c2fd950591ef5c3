"""Sums of integers, and the scales by which they become numbers again: of quantised layers, written as arithmetic."""

from __future__ import annotations

from onnx_ghn.graph.context import QUANTISED_TYPES
from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.graph.neighbours import behind_views, next_ops
from onnx_ghn.graph.weights import leaves

__all__ = ["is_integral", "makes_scale"]

_INTEGER_SUMS = frozenset({"ConvInteger", "MatMulInteger"})
#: Operators that give integers where their weight is of integers: a layer's sums, or rows of a table.
_WEIGH = frozenset({"MatMul", "Gemm", "Einsum", "Conv", "Gather"})


def is_integral(tensor: Tensor) -> bool:
    """Whether a value is an integer operator's sum, or the scale of activations that the running model quantises."""
    origin, _ = behind_views(tensor)
    producer = origin.producer if origin is not None else None
    if origin is None or producer is None:
        return False
    if producer.op_type == "DynamicQuantizeLinear":
        return origin is producer.outputs[1]
    return producer.op_type in _INTEGER_SUMS or origin.dtype in ("INT32", "INT8", "UINT8")


def makes_scale(op: Op) -> bool:
    """Whether a product is no value of a layer, but what the layer's sums of integers are multiplied or divided by.

    So is the product of the scales of data and weights, where the running model finds the scale of its data by
    arithmetic (Keras's int8 layers): x_q · w_q / (s_x · s_w).
    """
    made = op.outputs[0]
    return any(
        user.op_type in ("Mul", "Div") and any(_weighs_integers(other) for other in user.inputs if other is not made)
        for user in next_ops(made)
    )


def _weighs_integers(tensor: Tensor | None) -> bool:
    """Whether a value is what an operator makes of a stored weight of integers."""
    origin, _ = behind_views(tensor)
    producer = origin.producer if origin is not None else None
    if producer is None or producer.op_type not in _INTEGER_SUMS | _WEIGH:
        return False
    stored = [leaf for given in producer.inputs[:2] if given is not None and given.is_const for leaf in leaves(given)]
    return any(leaf.tensor.dtype in QUANTISED_TYPES and leaf.dequantize is None for leaf in stored)
