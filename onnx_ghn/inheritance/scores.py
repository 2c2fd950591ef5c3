"""What attention does with the products of queries and keys before its Softmax: numbers that scale them, and numbers
that tell heads apart.
"""

from __future__ import annotations

import math

import numpy as np

from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.inheritance.fields import axes_of
from onnx_ghn.inheritance.tracing import Trace

__all__ = ["carry"]

_DEEPEST = 8  # operators that are looked at before numbers are taken to differ from head to head
_PRODUCTS = frozenset({"MatMul", "Gemm", "Einsum", "Conv", "ConvTranspose"})
#: Behind which a number that scaled a value scales it no longer.
_ENDS = frozenset(
    {"Softmax", "Exp", "LogSoftmax", "Sigmoid", "LayerNormalization", "RMSNormalization", "InstanceNormalization"}
)


def carry(trace: Trace, op: Op) -> None:
    """Let what an operator gives be scores where it gets some, and be scaled by what scales what it gets.

    To be called when the operator was followed.
    """
    data = [tensor for tensor in op.inputs if tensor is not None and not tensor.is_const]
    if not data or not op.outputs or trace.value(op.outputs[0]) is not None:
        return  # sizes scale nothing
    out = op.outputs[0]
    if op.op_type in _PRODUCTS:
        if (made := trace.scores.get(out)) is not None:
            made.scale = math.prod(trace.numbers.get(tensor, 1.0) for tensor in data)
            trace.numbers[out] = made.scale
        return
    scores = next((tensor for tensor in data if tensor in trace.scores), None)
    number = _number(trace, op, data if scores is None else [scores])
    heads = None
    if scores is not None:
        heads = trace.scores[scores]
        if op.op_type in _ENDS:
            heads.is_weighed = True
        if not heads.is_weighed:
            heads.scale = number
            heads.is_numbered = heads.is_numbered or (op.op_type in ("Add", "Sub") and _tells_apart(trace, op, scores))
    for tensor in op.outputs:
        if number != 1:
            trace.numbers[tensor] = number
        if heads is not None and not op.op_type.startswith("Reduce"):
            trace.scores[tensor] = heads


def _number(trace: Trace, op: Op, data: list[Tensor]) -> float:
    """By which number of the model what comes out is scaled; NaN where that is not known."""
    if op.op_type in _ENDS:
        return 1.0
    before = [trace.numbers.get(tensor, 1.0) for tensor in data]
    if op.op_type not in ("Mul", "Div"):
        given = before if op.op_type in ("Add", "Sub", "Sum", "Concat", "Where") else before[:1]  # not where it is cut
        return next((number for number in given if number != 1), 1.0)
    number = 1.0
    for place, tensor in enumerate(op.inputs):
        if tensor is None:
            continue
        one = trace.numbers.get(tensor, 1.0)
        value = trace.value(tensor)
        if value is not None and value.size == 1 and not trace.owner(tensor):
            one = float(np.asarray(value).reshape(-1)[0])
        elif trace.shape(tensor) in ((), (1,)) and not trace.owner(tensor):
            one = math.nan
        number = number / one if place and op.op_type == "Div" and one else number * one
    return number


def _tells_apart(trace: Trace, op: Op, scores: Tensor) -> bool:
    """Whether numbers that no tensor holds, one or more for each head, are added to scores (ALiBi)."""
    rank = len(trace.shape(scores) or ())
    heads = {axis - rank for field in trace.of(scores) for axis in axes_of(field)}
    others = [tensor for tensor in op.inputs if tensor is not None and tensor not in trace.scores]
    return any(_varies(trace, other, axis) for other in others for axis in heads)


def _varies(trace: Trace, value: Tensor, axis: int, depth: int = 0) -> bool:
    """Whether numbers of the model differ along an axis, counted from the end; masks that are written out do not."""
    shape = trace.shape(value)
    if shape is None or -axis > len(shape) or shape[axis] == 1 or trace.owner(value):
        return False
    if any(axis + len(shape) in axes_of(field) for field in trace.of(value)):
        return False
    known = trace.value(value)
    if known is not None:
        return bool((known != known.take([0], axis)).any())
    op = value.producer
    if op is None or depth > _DEEPEST:
        return True
    if op.op_type == "ConstantOfShape":
        return False
    given = [tensor for tensor in op.inputs if tensor is not None]
    if op.op_type in ("Expand", "Tile", "Cast", "Identity"):
        given = given[:1]
    elif op.op_type not in ("Add", "Sub", "Mul", "Div", "Where", "Min", "Max"):
        return True
    return any(_varies(trace, tensor, axis, depth + 1) for tensor in given)
