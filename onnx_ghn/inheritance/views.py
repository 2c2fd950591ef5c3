"""Operators that see a value otherwise: other axes, or in another order. Labels of channels move with them."""

from __future__ import annotations

import math
from collections.abc import Callable

from onnx_ghn.errors import GraphError
from onnx_ghn.graph.flat import Op
from onnx_ghn.inheritance.fields import Field, Shape, axes_of, blocks, reshaped, vector
from onnx_ghn.inheritance.tracing import Trace

__all__ = ["VIEWS"]

Rule = Callable[[Trace, Op], None]


def _view(trace: Trace, op: Op, after: Shape | None) -> None:
    """What a reshape gives."""
    given, out = op.inputs[0], op.outputs[0]
    before = trace.shape(given)
    if before is None or after is None or math.prod(before) != math.prod(after):
        trace.give(out, after)
        return
    fields = [made for field in trace.of(given) if (made := reshaped(field, before, after)) is not None]
    for old in trace.of(given):
        _note_cut(trace, old, before, after)
    if (places := _joined_places(trace.of(given), before, after)) > 1:
        trace.flattened[out] = places
    trace.give(out, after, fields, trace.writers_of(given), trace.owner(given))


def _joined_places(fields: list[Field], before: Shape, after: Shape) -> int:
    """How many places of a map a reshape joins with channels: axes that no channel depends on."""
    depends = {axis for field in fields for axis in axes_of(field)}
    places = 1
    for left, _ in blocks(before, after) or ():
        if depends & set(left):
            places *= math.prod(before[axis] for axis in left if axis not in depends)
    return places


def _note_cut(trace: Trace, field: Field, before: Shape, after: Shape) -> None:
    """Where one axis of channels becomes several, its parts are as long as these say."""
    covered = axes_of(field)
    if len(covered) != 1:
        return
    axis = next(iter(covered))
    ahead = math.prod(before[:axis])
    labels = vector(field)
    size = 1
    for i, dim in enumerate(after):
        if size == ahead and dim > 1:
            parts = 1
            for part in after[i:]:
                parts *= part
                if parts >= len(labels) or len(labels) % parts:
                    return
                trace.cut(labels, len(labels) // parts)
            return
        size *= dim


def reshape(trace: Trace, op: Op) -> None:
    """Reshape: 0 copies a size, -1 is what is left."""
    before = trace.shape(op.input(0))
    wanted = trace.ints(op, 1, "shape")
    after: Shape | None = None
    if wanted is not None and before is not None:
        copies = not op.attr("allowzero", 0)
        sizes = [before[i] if dim == 0 and copies and i < len(before) else dim for i, dim in enumerate(wanted)]
        if -1 in sizes:
            rest = math.prod(dim for dim in sizes if dim != -1)
            sizes[sizes.index(-1)] = math.prod(before) // rest if rest else 0
        after = tuple(sizes)
    _view(trace, op, after if after is not None else trace.shape(None))
    trace.small(op)


def flatten(trace: Trace, op: Op) -> None:
    """Flatten to two axes."""
    before = trace.shape(op.input(0))
    after = None
    if before is not None:
        axis = op.attr("axis", 1)
        axis = axis + len(before) if axis < 0 else axis
        after = (math.prod(before[:axis]), math.prod(before[axis:]))
    _view(trace, op, after)


def squeeze(trace: Trace, op: Op) -> None:
    """Squeeze and Unsqueeze."""
    before = trace.shape(op.input(0))
    axes = trace.ints(op, 1, "axes")
    after: Shape | None = None
    if before is not None:
        if op.op_type == "Squeeze":
            drop = (
                {i for i, dim in enumerate(before) if dim == 1}
                if axes is None
                else {axis % len(before) for axis in axes}
            )
            after = tuple(dim for i, dim in enumerate(before) if i not in drop)
        elif axes is not None:
            rank = len(before) + len(axes)
            added = {axis % rank for axis in axes}
            if len(added) < len(axes):
                raise GraphError(f"Unsqueeze node {op.name!r} adds an axis twice: {axes}")
            rest = iter(before)
            after = tuple(1 if i in added else next(rest) for i in range(rank))
    _view(trace, op, after)
    trace.small(op)


def transpose(trace: Trace, op: Op) -> None:
    """Transpose."""
    given = op.input(0)
    shape = trace.shape(given)
    if shape is None:
        trace.give(op.outputs[0], None)
        return
    perm = op.attr("perm") or list(range(len(shape)))[::-1]
    fields = [field.transpose(perm) for field in trace.of(given)]
    after = tuple(shape[axis] for axis in perm)
    trace.give(op.outputs[0], after, fields, trace.writers_of(given), trace.owner(given))
    trace.small(op)


VIEWS: dict[str, Rule] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": squeeze,
    "Transpose": transpose,
}
