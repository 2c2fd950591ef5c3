"""Normalisations: scales and shifts that go with channels, and what is averaged over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.inheritance.elementwise import aligned, rows_along, spread
from onnx_ghn.inheritance.fields import Field, axes_of, vector
from onnx_ghn.inheritance.products import tie_vector
from onnx_ghn.inheritance.sizes import float_attr
from onnx_ghn.inheritance.tracing import Trace

__all__ = ["NORMALISATIONS"]

Rule = Callable[[Trace, Op], None]


def batch_norm(trace: Trace, op: Op) -> None:
    """BatchNormalization."""
    data = op.input(0)
    shape = trace.shape(data)
    labels = trace.channel(data, 1)
    if data is not None and data.is_const:
        _standardised_weight(trace, op, data)
        return
    for index, kind in enumerate(("norm_scale", "norm_shift", "norm_mean", "norm_variance"), start=1):
        tie_vector(trace, op.input(index), labels, kind)
    epsilon = float_attr(op, "epsilon", 1e-5)
    if scale := trace.owner(op.input(1)):
        trace.batch_norms[scale] = (trace.owner(op.input(4)), epsilon)
    if variance := trace.owner(op.input(4)):
        trace.epsilons[variance] = epsilon
    fields = trace.of(data)
    if labels is None and shape is not None and len(shape) > 1:
        own = next(iter(trace.of(op.input(1))), None)
        if own is not None:
            fields = [*fields, vector(own).reshape([-1 if i == 1 else 1 for i in range(len(shape))])]
    writers = tuple(filter(None, (trace.owner(op.input(1)), trace.owner(op.input(2)))))
    for i, out in enumerate(op.outputs):
        trace.give(out, shape if i == 0 else None, fields if i == 0 else (), writers)


def _standardised_weight(trace: Trace, op: Op, weight: Tensor) -> None:
    """A batch norm of a weight: each of its rows has mean 0 and variance 1, times a gain."""
    name, scale = trace.owner(weight), op.input(1)
    number = 1.0
    gain = scale
    while gain is not None and gain.producer is not None and gain.stored is None:
        others = [tensor for tensor in gain.producer.inputs if tensor is not None and not trace.owner(tensor)]
        for other in others if gain.producer.op_type == "Mul" else ():
            value = trace.value(other)
            number *= float(np.asarray(value).reshape(-1)[0]) if value is not None and value.size == 1 else 1.0
        gain = next((tensor for tensor in gain.producer.inputs if tensor is not None and trace.owner(tensor)), None)
    tie_vector(trace, scale, trace.channel(weight, 1), "factor")
    trace.standardised.add(name)
    if trace.owner(scale) and trace.owner(scale) != name:
        trace.gains[name] = (trace.owner(scale), number)
    trace.give(op.outputs[0], trace.shape(weight), trace.of(weight), owner=name)


def group_norm(trace: Trace, op: Op) -> None:
    """InstanceNormalization and GroupNormalization."""
    data = op.input(0)
    shape = trace.shape(data)
    labels = trace.channel(data, 1)
    if labels is not None:
        groups = max(1, op.attr("num_groups", len(labels)))
        if op.op_type == "GroupNormalization" and len(labels) % groups == 0:
            trace.cut(labels, len(labels) // groups)
            trace.averaged += list(labels.reshape(groups, -1)) if groups < len(labels) else []
    if op.op_type == "InstanceNormalization" and shape is not None:
        for field in trace.of(data):
            trace.averaged += rows_along(field, set(range(2, len(shape)))) if axes_of(field) - {0, 1} else []
    for index, kind in ((1, "norm_scale"), (2, "norm_shift")):
        tie_vector(trace, op.input(index), labels, kind)
    writers = tuple(filter(None, (trace.owner(op.input(1)), trace.owner(op.input(2)))))
    if trace.number and op.op_type == "InstanceNormalization":  # within a group norm its scales are ones
        writers = writers if len(writers) == 2 else ()
    trace.give(op.outputs[0], shape, trace.of(data), writers)


def layer_norm(trace: Trace, op: Op) -> None:
    """LayerNormalization and RMSNormalization."""
    data = op.input(0)
    shape = trace.shape(data)
    axis = op.attr("axis", -1)
    fields = trace.of(data)
    is_plain = "Simplified" in op.op_type or op.op_type.startswith("RMS")
    scale = op.input(1)
    shift = None if is_plain else op.input(2)
    names = tuple(filter(None, (trace.owner(scale), trace.owner(shift))))
    if data is not None and trace.is_stored(data):  # learned queries, or what an exporter made of them
        trace.use(trace.owner(data), "place")
    if axis == -1 or (shape is not None and axis == len(shape) - 1):
        labels = trace.channel(data, -1)
        tie_vector(trace, scale, labels, "norm_scale")
        tie_vector(trace, shift, labels, "norm_shift")
        if labels is not None:
            trace.averaged.append(labels)
            trace.norms.append((labels, names, not is_plain))
        elif shape is not None:
            _of_each_head(trace, fields, len(shape), (scale, shift))
    elif shape is not None:
        _over_several_axes(trace, fields, len(shape), axis % len(shape), (scale, shift))
    for i, out in enumerate(op.outputs):
        is_whole = shape is not None and i == 0
        trace.give(out, shape if is_whole else None, fields if is_whole else (), names if i == 0 else ())


def _of_each_head(trace: Trace, fields: list[Field], rank: int, vectors: tuple[Tensor | None, Tensor | None]) -> None:
    """A norm over the dimensions of a head, whose scale and shift are those of all heads."""
    for field in fields:
        if rank - 1 not in axes_of(field):
            continue
        trace.averaged += rows_along(field, {rank - 1})
        for own in (aligned(own, rank) for tensor in vectors for own in trace.of(tensor)):
            if own.shape[-1] == field.shape[-1]:
                trace.labels.unite(*spread(field, own))


def _over_several_axes(
    trace: Trace, fields: list[Field], rank: int, first: int, vectors: tuple[Tensor | None, Tensor | None]
) -> None:
    """A layer norm over channels and the places of a map, which its scale and shift have, too.

    Args:
        first: of the axes that it averages over.
        vectors: scale and shift.
    """
    taken = set(range(first, rank))
    for field in fields:
        if axes_of(field) & taken:
            trace.averaged += rows_along(field, taken)
    for tensor, kind in zip(vectors, ("norm_scale", "norm_shift"), strict=True):
        trace.use(trace.owner(tensor), kind)
        for field in trace.of(tensor):
            own = aligned(field, rank)
            partner = next((other for other in fields if other.shape == own.shape), None)
            trace.roles(field, "place" if partner is None else "channel")
            if partner is not None:
                trace.labels.unite(partner, own)


NORMALISATIONS: dict[str, Rule] = {
    "BatchNormalization": batch_norm,
    "InstanceNormalization": group_norm,
    "GroupNormalization": group_norm,
    "LayerNormalization": layer_norm,
    "RMSNormalization": layer_norm,
    "SimplifiedLayerNormalization": layer_norm,
}
