"""Frequencies by which inputs are multiplied before a sine and a cosine are taken: features of positions and times.

Random Fourier features, the bands of a NeRF, the noise levels of a diffusion model: few are trained, and their scale,
which their author chose, is what such a layer is about. An exporter that says nothing of buffers stores them as it does
weights.
"""

from __future__ import annotations

import math

from onnx_ghn.graph.flat import FlatGraph, Op, Tensor
from onnx_ghn.graph.weights import leaves
from onnx_ghn.onnx_io.view_operators import VIEW_OPERATORS

__all__ = ["FREQUENCIES", "frequencies"]

#: Why such a tensor keeps its values.
FREQUENCIES = "frequencies of sines and cosines"

_VIEWS = VIEW_OPERATORS | {"Expand", "Slice"}
_FACTORS = frozenset({"Mul", "Div", "MatMul", "Gemm", "Conv"})
_TERMS = frozenset({"Add", "Sub"})


def frequencies(flat: FlatGraph) -> set[str]:
    """Stored names of what multiplies inputs of the model, where sines and cosines of the products are taken.

    What is computed from the inputs by other stored tensors first is no position: there, weights are weights.
    """
    found: set[str] = set()
    for op in flat.ops:
        angle = op.input(0)
        if op.op_type == "Sin" and angle is not None and any(user.op_type == "Cos" for user in angle.consumers):
            found |= _of_angle(angle)
    return found


def _of_angle(angle: Tensor) -> set[str]:
    """The stored tensors of several numbers that inputs are multiplied by on the way to an angle."""
    found: set[str] = set()
    at: Tensor | None = angle
    while at is not None and at.producer is not None:
        op = at.producer
        # The shape of a view may be computed from the data, too.
        given = op.inputs[:1] if op.op_type in _VIEWS else op.inputs
        data = [tensor for tensor in given if tensor is not None and not tensor.is_const]
        if op.domain or op.op_type not in _VIEWS | _FACTORS | _TERMS or len(data) != 1:
            return set()
        if op.op_type in _FACTORS:
            found |= _factors(op)
        at = data[0]
    return found


def _factors(op: Op) -> set[str]:
    """The stored tensors of several numbers that an operator multiplies by; a bias is none."""
    constants = [given for given in op.inputs[:2] if given is not None and given.is_const]
    return {leaf.tensor.name for given in constants for leaf in leaves(given) if math.prod(leaf.layout.stored) > 1}
