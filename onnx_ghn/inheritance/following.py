"""Following the channels through a whole model: one table from operators to their rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from onnx_ghn.errors import GraphError
from onnx_ghn.free_dimensions import free_size
from onnx_ghn.graph.flat import FlatGraph
from onnx_ghn.graph.patterns import find_norms
from onnx_ghn.inheritance.elementwise import ELEMENTWISE
from onnx_ghn.inheritance.fields import Shape
from onnx_ghn.inheritance.pieces import PIECES
from onnx_ghn.inheritance.products import PRODUCTS
from onnx_ghn.inheritance.recurrence import RECURRENCES
from onnx_ghn.inheritance.tracing import Trace
from onnx_ghn.inheritance.views import VIEWS

if TYPE_CHECKING:
    from onnx_ghn.graph import ComputationGraph

__all__ = ["follow"]

_RULES = {**ELEMENTWISE, **VIEWS, **PIECES, **PRODUCTS, **RECURRENCES}
_DOMAINS = ("", "com.microsoft")
# What rules and numpy raise where an operator breaks the rules of its type (axes that are not there, shapes that do not
# fit, strides of 0): such an operator is one that nobody knows. Anything else is a mistake of ours.
_BROKEN = (GraphError, IndexError, OverflowError, ValueError, ZeroDivisionError)
_SIZES: Mapping[int, tuple[int, ...]] = {2: (16,), 3: (64,), 4: (64,), 5: (16,)}


def follow(flat: FlatGraph, graph: ComputationGraph) -> Trace:
    """Follow the channels of a model from operator to operator.

    Args:
        flat: its operators.
        graph: read from them; its parameters are those whose channels are followed.
    """
    free: dict[str, Shape] = {}
    for tensor in flat.inputs:
        if tensor.shape is None:
            continue
        dims = [dim if isinstance(dim, int) and dim > 0 else None for dim in tensor.shape]
        free[tensor.name] = tuple(
            dim if dim is not None else (1 if axis == 0 else free_size(dims, axis, 0, _SIZES))
            for axis, dim in enumerate(dims)
        )
    trace = Trace(flat, (*graph.parameters, *graph.uncertain), free)
    for number, op in enumerate(flat.ops):
        trace.number = number
        rule = _RULES.get(op.op_type) if op.domain in _DOMAINS else None
        if rule is None or not op.inputs:
            trace.unknown_op(op)
            continue
        try:
            rule(trace, op)
        except _BROKEN:
            trace.unknown_op(op)
    _written_norms(trace)
    trace.share_strides()
    return trace


def _written_norms(trace: Trace) -> None:
    """Scales and shifts of norms that are written as arithmetic are those of norms."""
    for match in find_norms(trace.flat):
        if match.over_batch:
            continue
        names = []
        for tensor, kind in ((match.scale, "norm_scale"), (match.shift, "norm_shift")):
            name = trace.owner(tensor)
            if name in trace.uses:
                trace.uses[name] = dataclasses.replace(trace.uses[name], kind=kind)
                names.append(name)
        labels = trace.channel(match.root, -1)
        if labels is not None and names:
            takes_mean = any(op.op_type == "Sub" for op in match.ops)
            trace.norms.append((labels, tuple(names), takes_mean))
