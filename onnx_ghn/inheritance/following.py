"""Following the channels through a whole model: one table from operators to their rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from onnx_ghn.errors import GraphError
from onnx_ghn.free_dimensions import free_size
from onnx_ghn.graph.flat import FlatGraph, Op
from onnx_ghn.graph.patterns import find_norms
from onnx_ghn.graph.spectral import norms_of_weights
from onnx_ghn.inheritance.einsum import einsum
from onnx_ghn.inheritance.elementwise import ELEMENTWISE, sizes_alone
from onnx_ghn.inheritance.fields import Field, Shape
from onnx_ghn.inheritance.fused import FUSED
from onnx_ghn.inheritance.lengths import norms_by_length
from onnx_ghn.inheritance.loops import close_turns, is_border, join
from onnx_ghn.inheritance.normalisation import NORMALISATIONS
from onnx_ghn.inheritance.op_order import from_outputs
from onnx_ghn.inheritance.pieces import PIECES
from onnx_ghn.inheritance.products import PRODUCTS
from onnx_ghn.inheritance.recurrence import RECURRENCES
from onnx_ghn.inheritance.sampling import SAMPLING
from onnx_ghn.inheritance.scores import carry
from onnx_ghn.inheritance.tracing import UNREAD, Trace, Use
from onnx_ghn.inheritance.unfused import unfused
from onnx_ghn.inheritance.views import VIEWS

if TYPE_CHECKING:
    from onnx_ghn.graph import ComputationGraph

__all__ = ["follow"]

_RULES = {
    **ELEMENTWISE,
    **NORMALISATIONS,
    **VIEWS,
    **PIECES,
    **SAMPLING,
    **PRODUCTS,
    **RECURRENCES,
    **FUSED,
    "Einsum": einsum,
}
_DOMAINS = ("", "com.microsoft", "qonnx.custom_op.general")
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
    norms = [norm for norm in graph.norms if norm.axis is not None and norm.mean and norm.variance]
    plain = unfused(flat, free)
    ordered = dataclasses.replace(plain.flat, ops=from_outputs(plain.flat))
    # A single number of which nothing tells whether it was learned keeps its value: to all rules it is the model's own.
    tables = [row for row in graph.uncertain if row.size > 1]
    trace = Trace(ordered, (*graph.parameters, *tables), free, norms)
    for tensor, array in plain.constants.items():
        trace.give(tensor, array.shape)
        trace.values[tensor] = array
    normalising = norms_of_weights(ordered.ops)
    for number, op in enumerate(ordered.ops):
        trace.number = number
        if op in normalising:
            for given in op.inputs:
                trace.of(given)  # a vector has its axes, which nothing else has to do with
            for out in op.outputs:
                trace.give(out, () if normalising[op] else None)
            continue
        rule = _RULES.get(op.op_type) if op.domain in _DOMAINS else join if is_border(op) else None
        if rule is None or not op.inputs:
            trace.unknown_op(op)
        else:
            try:
                rule(trace, op)
                carry(trace, op)
            except _BROKEN:
                trace.unknown_op(op)
            else:
                if rule is not sizes_alone and _is_lost(trace, op):
                    trace.unknown_op(op)
        trace.unread(op)
    close_turns(trace)
    _written_norms(trace)
    norms_by_length(trace)
    _running_norms(trace)
    _read_by_constants_alone(trace)
    for name in trace.norms_of.values():  # they go with their weights, in whatever block these are
        trace.uses.pop(name, None)
    trace.share_strides()
    return trace


def _is_lost(trace: Trace, op: Op) -> bool:
    """Whether channels end at an operator because its numbers are not known: nothing says what its outputs are.

    What follows would take channels of its own for those that come in, each by a rule that is exact by itself.
    """
    if any(trace.shape(tensor) is not None or tensor in trace.sequences for tensor in op.outputs):
        return False
    given = [tensor for tensor in op.inputs if tensor is not None]
    if any(trace.shape(tensor) is None for tensor in given):
        return False  # where these were lost is said already
    return any(not tensor.is_const and trace.of(tensor) for tensor in given)


def _read_by_constants_alone(trace: Trace) -> None:
    """Note the parameters that arithmetic on constants reads, and no rule: a bias of distances that are folded."""
    for number, op in enumerate(trace.flat.ops):
        if op.outputs and all(tensor.is_const for tensor in op.outputs):
            for index, tensor in enumerate(op.inputs):
                name = tensor.stored.name if tensor is not None and tensor.stored is not None else ""
                if name in trace.parameters and name not in trace.uses:
                    trace.owner(tensor)  # an operator of which nothing is known has not asked for its axes
                    trace.uses[name] = Use(number, f"{UNREAD} {index} of {op.op_type}")


def _written_norms(trace: Trace) -> None:
    """Scales and shifts of norms that are written as arithmetic are those of norms."""
    number = {op: i for i, op in enumerate(trace.flat.ops)}
    for match in find_norms(trace.flat):
        for op in match.ops:  # a sum that is divided by the number of channels is a mean
            trace.averaged += trace.summed.pop(number[op], [])
            trace.in_norms.add(number[op])
        exit_op = match.exit.producer
        assert exit_op is not None  # an operator of the norm gives it
        last = number[exit_op]
        names = []
        for tensor, kind in ((match.scale, "norm_scale"), (match.shift, "norm_shift")):
            name = trace.owner(tensor)
            if name in trace.uses:
                trace.uses[name] = dataclasses.replace(trace.uses[name], op=last, kind=kind)
                names.append(name)
        labels = trace.channel(match.root, -1)
        if labels is not None and names and not match.over_batch:
            takes_mean = any(op.op_type == "Sub" for op in match.ops)
            trace.norms.append((labels, tuple(names), takes_mean))


def _running_norms(trace: Trace) -> None:
    """Tensors of batch norms that are written as arithmetic are those of norms, as if an operator read them."""
    kinds = ("norm_scale", "norm_shift", "norm_mean", "norm_variance")
    for norm in trace.running_norms:
        named = zip((norm.scale, norm.shift, norm.mean, norm.variance), kinds, strict=True)
        kind_of = {name: kind for name, kind in named if name in trace.axes}
        numbers = [trace.uses[name].op for name in kind_of if name in trace.uses]
        if not numbers:
            continue
        first: Field | None = None
        for name, kind in kind_of.items():
            trace.uses[name] = Use(max(numbers), kind)
            for span in trace.axes[name]:
                if span is None:
                    continue
                trace.roles(span.labels, "channel")
                if first is not None and first.size == span.size:
                    trace.labels.unite(first, span.labels)
                first = span.labels
        trace.epsilons[norm.variance] = trace.offsets.pop(norm.variance, 0.0)
        if norm.scale:
            trace.batch_norms[norm.scale] = (norm.variance, trace.epsilons[norm.variance])
