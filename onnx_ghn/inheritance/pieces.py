"""Operators that take pieces of values and join values: channels go where these go."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from onnx_ghn.errors import GraphError
from onnx_ghn.graph.flat import Op
from onnx_ghn.inheritance.elementwise import met
from onnx_ghn.inheritance.fields import LARGEST, Field, Shape, along, axes_of, compressed, vector
from onnx_ghn.inheritance.tracing import Piece, Trace

__all__ = ["PIECES"]

Rule = Callable[[Trace, Op], None]


def concat(trace: Trace, op: Op) -> None:
    """Concat: channels side by side; channels of other axes are one."""
    shapes = [trace.shape(given) for given in op.inputs]
    known = [shape for shape in shapes if shape is not None]
    if not known or len(known) < len(shapes):
        trace.give(op.outputs[0], None)
        trace.small(op)
        return
    rank = len(known[0])
    axis = op.attr("axis", 0) % max(rank, 1)
    after = tuple(sum(shape[axis] for shape in known) if i == axis else known[0][i] for i in range(rank))
    joined: list[list[Field]] = []
    fields: list[Field] = []
    for given in op.inputs:
        mine = [field for field in trace.of(given) if axis in axes_of(field)]
        joined.append(mine)
        for field in trace.of(given):
            if axis in axes_of(field):
                continue
            partner = next((other for other in fields if axes_of(other) == axes_of(field)), None)
            if partner is None:
                fields.append(field)
            elif partner.shape == field.shape:
                trace.labels.unite(partner, field)
                if op.outputs[0].is_const:
                    trace.alias(partner, field)
    if any(joined):
        covered = sorted({i for mine in joined for field in mine for i in axes_of(field)})
        if math.prod(after[i] for i in covered) <= LARGEST:
            pieces = []
            for mine, shape in zip(joined, known, strict=True):
                full = [shape[i] if i in covered else 1 for i in range(rank)]
                if mine and all(s in (1, f) for s, f in zip(mine[0].shape, full, strict=True)):
                    pieces.append(np.broadcast_to(mine[0], full))
                else:  # nothing is known of these channels: labels that no tensor makes
                    pieces.append(trace.labels.new(math.prod(full)).labels.reshape(full))
            fields.append(np.concatenate(pieces, axis))
    if not op.outputs[0].is_const:  # a class token before what it is read with
        for given in op.inputs:
            if name := trace.owner(given):
                trace.use(name, "place")
                for field in trace.of(given):
                    trace.roles(field, "place" if axis in axes_of(field) else "channel")
    else:
        trace.join(list(dict.fromkeys(owner for given in op.inputs if (owner := trace.owner(given)))))
    made = {trace.writers_of(given) for given in op.inputs if given is not None}
    writers = made.pop() if len(made) == 1 else ()
    trace.give(op.outputs[0], after, fields, writers, _first_owner(trace, op))
    trace.small(op)


def split(trace: Trace, op: Op) -> None:
    """Split."""
    given = op.input(0)
    shape = trace.shape(given)
    if shape is None:
        for out in op.outputs:
            trace.give(out, None)
        return
    axis = op.attr("axis", 0) % len(shape)
    sizes = trace.ints(op, 1, "split")
    n = len(op.outputs)
    if sizes is None:
        part = -(-shape[axis] // n)
        sizes = [part] * (n - 1) + [shape[axis] - part * (n - 1)]
    for out, piece in zip(op.outputs, _pieces(trace, op, shape, axis, sizes), strict=False):
        trace.give(out, *piece, trace.owner(given))


def slice_(trace: Trace, op: Op) -> None:
    """Slice."""
    given, out = op.input(0), op.outputs[0]
    shape = trace.shape(given)
    starts, ends = trace.ints(op, 1, "starts"), trace.ints(op, 2, "ends")
    if shape is None or starts is None or ends is None:
        trace.give(out, None)
        return
    axes = trace.ints(op, 3, "axes") or list(range(len(starts)))
    steps = trace.ints(op, 4, "steps") or [1] * len(starts)
    fields = trace.of(given)
    after = list(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis %= len(shape)
        if shape[axis] > LARGEST:
            raise GraphError(f"Slice node {op.name!r} cuts an axis of {shape[axis]}, which is not followed")
        stop = None if step < 0 and end < -shape[axis] else end
        index = np.arange(shape[axis])[slice(start, stop, step)]
        after[axis] = len(index)
        fields = [_taken(field, axis, index) for field in fields]
        _cut_at(trace, trace.of(given), axis, index)
    trace.give(out, tuple(after), fields, trace.writers_of(given), trace.owner(given))
    trace.small(op)


def gather(trace: Trace, op: Op) -> None:
    """Gather: rows of a table, or pieces of a value by known indices."""
    given, out = op.input(0), op.outputs[0]
    shape, index_shape = trace.shape(given), trace.shape(op.input(1))
    index = trace.value(op.input(1))
    if shape is None or index_shape is None:
        if shape is not None and index is not None:
            index_shape = tuple(np.shape(index))
        else:
            if shape is not None and trace.owner(given) and len(shape) == 2 and not out.is_const:
                trace.use(trace.owner(given), "table")
                for field, role in zip(trace.of(given), ("rows", "out"), strict=False):
                    trace.roles(field, role)
            trace.give(out, None)
            trace.small(op)
            return
    axis = op.attr("axis", 0) % max(len(shape), 1)
    after = (*shape[:axis], *index_shape, *shape[axis + 1 :])
    is_turn = index is None and out.is_const  # the piece of one turn of a loop
    is_table = bool(trace.owner(given)) and index is None and not is_turn
    if is_table:
        name = trace.owner(given)
        trace.use(name, "table")
    fields = []
    for field in trace.of(given):
        covered = axes_of(field)
        if is_table:
            trace.roles(field, "rows" if axis in covered else "out")
        if axis in covered and (index is None or len(np.shape(index)) > 1):
            if is_turn:
                trace.roles(field, "layer")
            continue
        piece = field
        if axis in covered and index is not None:
            rows = np.mod(np.asarray(index, np.int64).reshape(-1), shape[axis])
            piece = np.take(field, rows, axis)
            _cut_at(trace, trace.of(given), axis, rows)
        new = (*field.shape[:axis], *([1] * len(index_shape)), *field.shape[axis + 1 :])
        if axis in covered:
            new = (*field.shape[:axis], *index_shape, *field.shape[axis + 1 :])
        fields.append(compressed(piece.reshape(new)))
    writers = (trace.owner(given),) if is_table else trace.writers_of(given)
    trace.give(out, after, fields, writers, "" if is_table else trace.owner(given))
    trace.small(op)


def expand(trace: Trace, op: Op) -> None:
    """Expand and Tile."""
    given, out = op.input(0), op.outputs[0]
    shape = trace.shape(given)
    sizes = trace.ints(op, 1, "shape")
    if shape is None or sizes is None:
        trace.give(out, None)
        return
    if op.op_type == "Tile":
        after = tuple(dim * times for dim, times in zip(shape, sizes, strict=True))
        repeats = [[n if field.shape[i] > 1 else 1 for i, n in enumerate(sizes)] for field in trace.of(given)]
        fields = [
            np.tile(field, times)
            for field, times in zip(trace.of(given), repeats, strict=True)
            if field.size * math.prod(times) <= LARGEST
        ]
    else:
        after = np.broadcast_shapes(shape, tuple(sizes))
        pad = len(after) - len(shape)
        fields = [field.reshape([1] * pad + list(field.shape)) for field in trace.of(given)]
    trace.give(out, after, fields, trace.writers_of(given), trace.owner(given))
    trace.small(op)


def gather_elements(trace: Trace, op: Op) -> None:
    """GatherElements and GatherND: which channels are taken is known of a first-axis table alone.

    torch's second exporter writes GatherND where a table is indexed by an array.
    """
    given, index, out = op.input(0), op.input(1), op.outputs[0]
    shape, index_shape = trace.shape(given), trace.shape(index)
    if shape is None or index_shape is None:
        trace.give(out, None)
        return
    if op.op_type == "GatherElements":
        trace.give(out, index_shape)
        return
    depth = op.attr("batch_dims", 0) + (index_shape[-1] if index_shape else 0)
    after = (*index_shape[:-1], *shape[depth:])
    whole = [field for field in trace.of(given) if all(axis >= depth for axis in axes_of(field))]
    fields = [field.reshape([1] * (len(index_shape) - 1) + list(field.shape[depth:])) for field in whole]
    name = trace.owner(given)
    if not name or out.is_const:  # a bias of distances is a constant still
        trace.give(out, after, fields, owner=name)
        return
    trace.use(name, "table")
    for field in trace.of(given):
        trace.roles(field, "out" if min(axes_of(field)) >= depth else "rows")
    trace.give(out, after, fields, (name,))


def scatter_nd(trace: Trace, op: Op) -> None:
    """ScatterND: rows of a value are written anew; its last axes are those of what is written."""
    given, index, updates, out = trace.needed(op, 0), op.input(1), op.input(2), op.outputs[0]
    shape, index_shape = trace.shape(given), trace.shape(index)
    if shape is None or not index_shape:
        trace.give(out, None)
        return
    depth, rank = index_shape[-1], len(shape)
    found = [field for field in trace.of(given) if all(axis >= depth for axis in axes_of(field))]
    for field in trace.of(updates):
        rest = rank - depth  # axes that both have
        if all(axis >= field.ndim - rest for axis in axes_of(field)):
            found.append(field.reshape([1] * depth + list(field.shape[field.ndim - rest :])))
    trace.give(out, shape, met(trace, found, shape))


def top_k(trace: Trace, op: Op) -> None:
    """TopK: the largest along an axis; which these are, nobody knows."""
    given, k = trace.needed(op, 0), trace.ints(op, 1, "k")
    shape = trace.shape(given)
    if shape is None or k is None:
        for out in op.outputs:
            trace.give(out, None)
        return
    axis = op.attr("axis", -1) % len(shape)
    after = tuple(k[0] if i == axis else size for i, size in enumerate(shape))
    for out in op.outputs:
        trace.give(out, after, [field for field in trace.of(given) if axis not in axes_of(field)])


def split_to_sequence(trace: Trace, op: Op) -> None:
    """SplitToSequence: pieces that SequenceAt takes."""
    given = op.input(0)
    shape = trace.shape(given)
    trace.give(op.outputs[0], None)
    if shape is None:
        return
    axis = op.attr("axis", 0) % len(shape)
    sizes = trace.ints(op, 1, "")
    if sizes is None:
        return
    given_sizes = trace.value(op.input(1))
    if len(sizes) == 1 and given_sizes is not None and given_sizes.ndim == 0:
        each = max(1, sizes[0])
        sizes = [each] * (shape[axis] // each) + ([shape[axis] % each] if shape[axis] % each else [])
    trace.sequences[op.outputs[0]] = _pieces(trace, op, shape, axis, sizes)


def sequence_at(trace: Trace, op: Op) -> None:
    """SequenceAt: one of the pieces."""
    given = op.input(0)
    pieces = trace.sequences.get(given, []) if given is not None else []
    index = trace.ints(op, 1, "")
    if not pieces or index is None:
        trace.give(op.outputs[0], None)
        return
    trace.give(op.outputs[0], *pieces[index[0]])


def depth_to_space(trace: Trace, op: Op) -> None:
    """DepthToSpace and SpaceToDepth: channels become places, or places channels."""
    given, out = op.input(0), op.outputs[0]
    shape = trace.shape(given)
    if shape is None or len(shape) != 4:
        trace.give(out, None)
        return
    side = max(1, op.attr("blocksize", 1))
    batch, channels, height, width = shape
    labels = trace.channel(given, 1)
    fields: list[Field] = []
    if op.op_type == "DepthToSpace":
        after = (batch, channels // side**2, height * side, width * side)
        if labels is not None:
            first = labels.reshape(-1, side**2)[:, 0] if op.attr("mode", "DCR") == "CRD" else labels[: after[1]]
            fields = [along(first, 4, 1)]
            trace.cut(labels, side**2 if op.attr("mode", "DCR") == "CRD" else after[1])
    else:
        after = (batch, channels * side**2, height // side, width // side)
        if labels is not None:
            fields = [along(np.tile(labels, side**2), 4, 1)]
    trace.give(out, after, fields)


def pad(trace: Trace, op: Op) -> None:
    """Pad: padded channels are labels that no tensor makes."""
    given, out = op.input(0), op.outputs[0]
    shape, pads = trace.shape(given), trace.ints(op, 1, "pads")
    if shape is None or pads is None:
        trace.give(out, None)
        return
    axes = trace.ints(op, 3, "") if op.input(3) is not None else None
    full = [0] * (2 * len(shape))
    named = list(range(len(shape))) if axes is None else [axis % len(shape) for axis in axes]
    for i, axis in enumerate(named):
        full[axis], full[len(shape) + axis] = pads[i], pads[len(named) + i]
    after = tuple(dim + full[i] + full[len(shape) + i] for i, dim in enumerate(shape))
    fields = []
    for field in trace.of(given):
        padded = [axis for axis in axes_of(field) if full[axis] or full[len(shape) + axis]]
        if not padded:
            fields.append(field)
        elif len(axes_of(field)) == 1 and min(full) >= 0 and max(full) <= LARGEST:
            axis = padded[0]
            ahead, behind = (trace.labels.new(n).labels for n in (full[axis], full[len(shape) + axis]))
            fields.append(along(np.concatenate([ahead, vector(field), behind]), len(shape), axis))
    trace.give(out, after, fields, trace.writers_of(given), trace.owner(given))


def _pieces(trace: Trace, op: Op, shape: Shape, axis: int, sizes: Sequence[int]) -> list[Piece]:
    """What an operator cuts its first input into. Raises GraphError where the sizes are no division of the axis."""
    if min(sizes, default=0) < 0 or sum(sizes) != shape[axis] or shape[axis] > LARGEST:
        raise GraphError(f"{op.op_type} node {op.name!r} cuts {shape[axis]} channels into {list(sizes)[:8]}")
    given = op.input(0)
    made: list[Piece] = []
    first = 0
    for size in sizes:
        index = np.arange(first, first + size)
        _cut_at(trace, trace.of(given), axis, index)
        after = tuple(size if i == axis else dim for i, dim in enumerate(shape))
        made.append((after, [_taken(field, axis, index) for field in trace.of(given)], trace.writers_of(given)))
        first += size
    return made


def _cut_at(trace: Trace, fields: Sequence[Field], axis: int, index: np.ndarray) -> None:
    """A piece of an axis is a part of its channels, or of those of each head."""
    for field in fields:
        covered = axes_of(field)
        if axis == max(covered, default=-1) and len(index) > 1:
            for other in covered - {axis}:
                field = field.take([0], other)
            trace.cut(vector(_taken(field, axis, index)), len(index))
            if (every := int(index[1] - index[0])) > 1 and (np.diff(index) == every).all():  # every n-th: pairs
                first = int(index[0]) // every * every
                trace.cut(vector(_taken(field, axis, np.arange(first, first + len(index) * every))), every)


def _taken(field: Field, axis: int, index: np.ndarray) -> Field:
    return np.take(field, index, axis) if field.shape[axis] > 1 else field


def _first_owner(trace: Trace, op: Op) -> str:
    return next((owner for given in op.inputs if (owner := trace.owner(given))), "") if op.outputs[0].is_const else ""


PIECES: dict[str, Rule] = {
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_elements,
    "ScatterND": scatter_nd,
    "TopK": top_k,
    "SplitToSequence": split_to_sequence,
    "SequenceAt": sequence_at,
    "Expand": expand,
    "Tile": expand,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": depth_to_space,
    "Pad": pad,
}
