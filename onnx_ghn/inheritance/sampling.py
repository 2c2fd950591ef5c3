"""Operators that read a value, or write it anew, at places that the model computes: its channels stay."""

from __future__ import annotations

from collections.abc import Callable

from onnx_ghn.graph.flat import Op
from onnx_ghn.inheritance.elementwise import met
from onnx_ghn.inheritance.fields import axes_of
from onnx_ghn.inheritance.tracing import Trace

__all__ = ["SAMPLING"]

Rule = Callable[[Trace, Op], None]


def grid_sample(trace: Trace, op: Op) -> None:
    """GridSample: (n, c, h, w) at the places (n, y, x, 2) -> (n, c, y, x), and so with a depth before the height.

    Deformable attention has its heads along the first axis.
    """
    given, grid = trace.needed(op, 0), trace.needed(op, 1)
    shape, places = trace.shape(given), trace.shape(grid)
    after = None if shape is None or places is None else (*shape[:2], *places[1:-1])
    trace.give(op.outputs[0], after, [field for field in trace.of(given) if axes_of(field) <= {0, 1}])


def scatter_elements(trace: Trace, op: Op) -> None:
    """ScatterElements: elements along one axis are written anew; which these are, nobody knows of channels along it."""
    given, updates = trace.needed(op, 0), trace.needed(op, 2)
    shape, new = trace.shape(given), trace.shape(updates)
    axis = op.attr("axis", 0)
    axis = axis % len(shape) if shape else axis
    found = [*trace.of(given), *(trace.of(updates) if shape and new and len(new) == len(shape) else ())]
    if shape is None or any(axis in axes_of(field) for field in found):
        trace.unknown_op(op)
        found = []
    trace.give(op.outputs[0], shape, met(trace, found, shape or ()))


def reverse_sequence(trace: Trace, op: Op) -> None:
    """ReverseSequence: what stands along one axis is read backwards (Keras's Bidirectional on TensorFlow)."""
    given = trace.needed(op, 0)
    kept = [field for field in trace.of(given) if op.attr("time_axis", 0) not in axes_of(field)]
    trace.give(op.outputs[0], trace.shape(given), kept, trace.writers_of(given))


def one_hot(trace: Trace, op: Op) -> None:
    """OneHot: ones at the places that numbers name; what these are, no weight says."""
    shape, depth = trace.shape(op.input(0)), trace.ints(op, 1, "")
    if shape is None or not depth:
        trace.give(op.outputs[0], None)
        return
    axis = op.attr("axis", -1) % (len(shape) + 1)
    trace.give(op.outputs[0], (*shape[:axis], depth[0], *shape[axis:]))


SAMPLING: dict[str, Rule] = {
    "GridSample": grid_sample,
    "ScatterElements": scatter_elements,
    "ReverseSequence": reverse_sequence,
    "OneHot": one_hot,
}
