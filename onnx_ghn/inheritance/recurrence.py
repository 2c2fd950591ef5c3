"""Recurrent layers: gates × hidden channels in one axis, and all gates have the same channels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.inheritance.fields import Field, along, axes_of, only_axis, vector
from onnx_ghn.inheritance.labels import Ints
from onnx_ghn.inheritance.tracing import Trace

__all__ = ["RECURRENCES"]

Rule = Callable[[Trace, Op], None]

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(trace: Trace, op: Op) -> None:
    """LSTM, GRU, RNN: gates × hidden in one axis; all gates have the same channels."""
    data, weight, state, bias = (op.input(i) for i in range(4))
    shape = trace.shape(data)
    sizes = trace.shape(weight)
    gates = _GATES[op.op_type]
    if sizes is None or len(sizes) != 3:
        for out in op.outputs:
            trace.give(out, None)
        return
    directions, hidden = sizes[0], sizes[1] // gates
    labels = trace.labels.new(hidden).labels
    incoming = trace.channel(data, 2)
    for tensor, read, kind in ((weight, incoming, "recurrent_in"), (state, labels, "recurrent_state")):
        for name in _owners(tensor):
            trace.use(name, kind)
        for field in trace.of(tensor):
            covered = axes_of(field)
            if 1 in covered and field.shape[1] == gates * hidden:
                trace.roles(field, "out")
                _gates(trace, field, 1, labels, gates)
            elif covered == {2}:
                trace.roles(field, "in", contracted=True)
                if read is not None and len(read) == field.size:
                    trace.labels.unite(vector(field), read)
            elif covered == {0}:
                trace.roles(field, "direction")
    for name in _owners(bias):
        trace.use(name, "recurrent_bias")
    for field in trace.of(bias):
        if 1 in axes_of(field) and field.shape[1] == 2 * gates * hidden:
            trace.roles(field, "out")
            _gates(trace, field, 1, labels, 2 * gates)
        elif axes_of(field) == {0}:
            trace.roles(field, "direction")
    _states(trace, op, labels)
    by_sample = bool(op.attr("layout", 0))
    if shape is None:
        for out in op.outputs:
            trace.give(out, None)
        return
    steps, batch = (shape[1], shape[0]) if by_sample else (shape[0], shape[1])
    whole = (batch, steps, directions, hidden) if by_sample else (steps, directions, batch, hidden)
    last = (batch, directions, hidden) if by_sample else (directions, batch, hidden)
    for i, out in enumerate(op.outputs):
        after = whole if i == 0 else last
        trace.give(out, after, [along(labels, len(after), len(after) - 1)])


def _states(trace: Trace, op: Op, labels: Ints) -> None:
    """What the channels begin with, and what gates read of the cell (peepholes)."""
    for tensor in (op.input(5), op.input(6)):
        for field in trace.of(tensor):
            if only_axis(field, -1) and field.size == len(labels):
                trace.roles(field, "channel")
                trace.labels.unite(vector(field), labels)
        for name in _owners(tensor):
            trace.use(name, "vector")
    peepholes = op.input(7)
    for name in _owners(peepholes):
        trace.use(name, "recurrent_bias")
    for field in trace.of(peepholes):
        if 1 in axes_of(field) and field.shape[1] == 3 * len(labels):
            trace.roles(field, "out")
            _gates(trace, field, 1, labels, 3)
        elif axes_of(field) == {0}:
            trace.roles(field, "direction")


def _owners(tensor: Tensor | None) -> list[str]:
    """Stored tensors that a constant is made of, in the order in which it joins them: the forward direction first."""
    if tensor is None or not tensor.is_const:
        return []
    return [value.stored.name for value in tensor.made_of() if value.stored is not None][::-1]


def _gates(trace: Trace, field: Field, axis: int, labels: Ints, gates: int) -> None:
    """Unite the channels of all gates, and note which part is which gate."""
    rows = np.moveaxis(field, axis, -1)
    rows = rows.reshape(-1, rows.shape[-1])  # (directions or 1, gates · hidden)
    order = np.repeat(np.arange(gates), len(labels))
    for row in rows:
        trace.cut(row, len(labels))
        trace.labels.unite(row, np.tile(labels, gates))
        trace.labels.rank(row, order)


RECURRENCES: dict[str, Rule] = dict.fromkeys(_GATES, recurrent)
