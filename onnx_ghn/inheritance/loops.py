"""Bodies of If, Loop and Scan: what enters them, what comes out, and what is handed from turn to turn.

Frameworks on JAX write recurrent layers so, and layers that are stacked in one tensor. The flat graph marks the borders
of a body by operators named Join.
"""

from __future__ import annotations

from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.inheritance.elementwise import broadcast
from onnx_ghn.inheritance.fields import LARGEST, along, axes_of
from onnx_ghn.inheritance.tracing import Trace

__all__ = ["close_turns", "is_border", "join"]

_TURNS = 16  # where nobody knows how many there are


def is_border(op: Op) -> bool:
    """Whether an operator is where values enter a body, or come out of one."""
    return (op.domain, op.op_type) == ("onnx_ghn", "Join")


def join(trace: Trace, op: Op) -> None:
    """What enters a body, or comes out of one: the same channels."""
    given = [tensor for tensor in op.inputs if tensor is not None]
    if len(given) > 1:  # of an If: the same, whichever branch is taken
        if len({trace.shape(tensor) for tensor in given}) > 1:
            trace.unknown_op(op)
            return
        broadcast(trace, op)
    elif "taken" in op.attributes:
        _taken(trace, given[0], op.outputs[0], op.attr("taken", 0))
    elif "stacked" in op.attributes:
        _stacked(trace, given[0], op.outputs[0], op.attr("stacked", 0))
    elif "changed" in op.attributes:
        _first_state(trace, given[0], op.outputs[0])
    else:
        trace.give(
            op.outputs[0],
            trace.shape(given[0]),
            trace.of(given[0]),
            trace.writers_of(given[0]),
            trace.owner(given[0]) if op.outputs[0].is_const else "",
        )
        value = trace.value(given[0])
        if value is not None and op.outputs[0].is_const:
            trace.values[op.outputs[0]] = value


def _first_state(trace: Trace, given: Tensor, out: Tensor) -> None:
    """What the turns change: from then on it is data, whatever they begin with."""
    shape = trace.shape(given)
    fields = trace.of(given)
    name = trace.owner(given)
    if name:  # it is learned
        trace.use(name, "vector")
        for field in fields:
            trace.roles(field, "channel" if field.ndim - 1 in axes_of(field) else "place")
    if not fields and shape and 1 < shape[-1] <= LARGEST:  # what the turns write there is one with these labels
        fields = [along(trace.labels.new(shape[-1]).labels, len(shape), len(shape) - 1)]
    trace.give(out, shape, fields)


def _taken(trace: Trace, given: Tensor, out: Tensor, axis: int) -> None:
    """The piece of a value that belongs to one turn of a Scan: one axis less."""
    shape = trace.shape(given)
    if not shape:
        trace.give(out, None)
        return
    axis %= len(shape)
    fields = [field.squeeze(axis) for field in trace.of(given) if axis not in axes_of(field)]
    for field in trace.of(given):
        if axis in axes_of(field):
            trace.roles(field, "layer")
    trace.give(out, (*shape[:axis], *shape[axis + 1 :]), fields, trace.writers_of(given), trace.owner(given))


def _stacked(trace: Trace, given: Tensor, out: Tensor, axis: int) -> None:
    """What each turn gives, side by side along a new axis."""
    shape = trace.shape(given)
    if shape is None:
        trace.give(out, None)
        return
    axis %= len(shape) + 1
    declared = out.shape
    turns = declared[axis] if declared is not None and len(declared) == len(shape) + 1 else None
    after = (*shape[:axis], turns or _TURNS, *shape[axis:])
    fields = [field.reshape((*field.shape[:axis], 1, *field.shape[axis:])) for field in trace.of(given)]
    trace.give(out, after, fields, trace.writers_of(given))


def close_turns(trace: Trace) -> None:
    """What one turn hands to the next are the same channels."""
    for ended, state in trace.flat.links:
        entry = state.producer
        if entry is None or not is_border(entry) or "changed" not in entry.attributes:
            continue
        before, after = trace.of(state), trace.of(ended)
        is_known = trace.shape(ended) is not None and trace.shape(ended) == trace.shape(state)
        for field in before if is_known else ():
            partner = next((other for other in after if axes_of(other) == axes_of(field)), None)
            if partner is not None:
                trace.labels.unite(partner, field)
        covered = [axes_of(field) for field in before]
        if (before and not is_known) or any(axes_of(field) not in covered for field in after):
            trace.unknown["loops"] = trace.unknown.get("loops", 0) + 1
