"""Norms by root mean squares that are written as lengths: x / |x| · √channels · scale, as F.normalize gives them.

The length of copied channels grows by the root of how often they are copied, and √channels by as much, so that such a
norm averages over channels as any other. Without that number it does not.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from onnx_ghn.graph.folding import ints_of

if TYPE_CHECKING:
    from onnx_ghn.graph.flat import Op, Tensor
    from onnx_ghn.inheritance.tracing import Trace

__all__ = ["norms_by_length"]

_GUARDS = frozenset({"Clip", "Max", "Add", "Expand", "Identity", "Cast"})  # of a length that would be zero
_STEPS = 8  # operators that are looked at behind a length, and behind what is divided by it


def norms_by_length(trace: Trace) -> None:
    """Note the norms by length of a model that was followed: what they average over, and their scales."""
    for number, op in enumerate(trace.flat.ops):
        if op.op_type == "ReduceL2" and not op.outputs[0].is_const and number in trace.summed:
            divided = _divided(op)
            size = _size(trace, op)
            if divided is not None and size:
                _note(trace, number, divided, size)


def _divided(length: Op) -> Op | None:
    """The quotient of a value and its length; None where there is none."""
    given, at = length.inputs[0], length.outputs[0]
    for _ in range(_STEPS):
        readers = [user for user in at.consumers if user.op_type != "Shape"]
        if len(readers) != 1:
            return None
        op = readers[0]
        if op.op_type == "Div":
            return op if op.inputs[0] is given and op.inputs[1] is at else None
        guard = op.input(1)
        if op.op_type not in _GUARDS or (op.op_type != "Expand" and guard is not None and not guard.is_const):
            return None
        at = op.outputs[0]
    return None


def _size(trace: Trace, length: Op) -> int:
    """Over how many elements a length is taken; 0 where that is not known."""
    shape = trace.shape(length.inputs[0])
    second = length.input(1)
    axes = ints_of(second) if second is not None else length.attr("axes")
    return math.prod(shape[axis] for axis in axes) if shape is not None and axes else 0


def _note(trace: Trace, number: int, divided: Op, size: int) -> None:
    factor, scale = 1.0, ""
    scaled: list[tuple[str, ...]] = []
    at: Tensor = divided.outputs[0]
    for _ in range(_STEPS):
        readers = [user for user in at.consumers if user.op_type != "Shape"]
        if len(readers) != 1 or readers[0].op_type != "Mul":
            break
        other = next((t for t in readers[0].inputs if t is not at and t is not None), None)
        if other is None or not other.is_const:
            break
        name, value = trace.owner(other), trace.value(other)
        if name and not scale:
            scale = name
        elif not name and value is not None and value.size == 1:
            factor *= float(value.reshape(-1)[0])
            scaled.append(trace.writers_of(at))
        else:
            break
        at = readers[0].outputs[0]
    if not math.isclose(factor, math.sqrt(size), rel_tol=1e-3):
        return
    trace.averaged += trace.summed.pop(number)
    trace.in_norms.add(number)
    for writers in scaled:  # √channels is another number in a model of another width, and nothing makes up for it
        trace.scaled.pop(writers, None)
    root = divided.inputs[0]
    labels = trace.channel(root, -1)
    if scale in trace.uses and labels is not None and len(labels) == size:  # over the last axis alone
        trace.uses[scale] = dataclasses.replace(trace.uses[scale], kind="norm_scale")
        trace.norms.append((labels, (scale,), False))
