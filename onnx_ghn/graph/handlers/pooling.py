"""Pooling and means."""

from __future__ import annotations

from onnx_ghn.graph.context import BuildContext
from onnx_ghn.graph.flat import Op
from onnx_ghn.graph.folding import scalar_of
from onnx_ghn.graph.model import Primitive
from onnx_ghn.graph.neighbours import behind_views, is_squeeze

__all__ = ["global_max_pool", "mean", "pool"]


def pool(ctx: BuildContext, op: Op) -> None:
    """MaxPool, AveragePool, LpPool: a node with its window. An average over 1 × 1 windows at stride 1 is what
    adaptive pooling exports to when the size is already right, and counts as glob_avg.
    """
    window = [int(k) for k in op.attr("kernel_shape") or ()]
    sources = ctx.sources(op.input(0))
    average = op.op_type != "MaxPool"
    if average and window and all(k == 1 for k in window) and all(s == 1 for s in op.attr("strides") or [1]):
        ctx.finish(op, ctx.add_node(Primitive.glob_avg, sources, name=op.name))
        return
    shape = {1: (1, 1, *window, 1), 2: (1, 1, *window), 3: (1, 1, *window[1:])}.get(len(window))
    primitive = Primitive.avg_pool if average else Primitive.max_pool
    after = ctx.add_node(primitive, sources, name=op.name, shape=shape)
    ctx.finish(op, frozenset())  # MaxPool's second output holds indices
    ctx.set_sources(op.outputs[0], after)


def global_max_pool(ctx: BuildContext, op: Op) -> None:
    """GlobalMaxPool: max_pool over everything, in our own rules; the published graphs drop it."""
    if ctx.rules.name != "onnx":
        ctx.drop(op)
        return
    ctx.finish(op, ctx.add_node(Primitive.max_pool, ctx.sources(op.input(0)), name=op.name))


def mean(ctx: BuildContext, op: Op) -> None:
    """GlobalAveragePool, ReduceMean, and ReduceSum before a division: glob_avg where the rule set takes it for one."""
    sources = ctx.sources(op.input(0))
    if sources and (op.op_type != "ReduceSum" or _is_divided(op)) and _is_node(ctx, op):
        sources = ctx.add_node(Primitive.glob_avg, sources, name=op.name)
    ctx.finish(op, sources)


def _is_divided(op: Op) -> bool:
    """Whether a sum is divided by one number next: a mean (JAX writes it so)."""
    users = op.outputs[0].consumers
    if len(users) != 1 or users[0].op_type not in ("Div", "Mul"):
        return False
    divisor = users[0].input(1)
    return divisor is not None and divisor.is_const and scalar_of(divisor) is not None


def _is_node(ctx: BuildContext, op: Op) -> bool:
    if _is_adaptive(op):
        return True
    keeps = op.op_type == "GlobalAveragePool" or bool(op.attr("keepdims", 1))
    rule = ctx.rules.mean
    if rule == "keepdims":
        return keeps
    if rule == "head_if_gated":
        return not ctx.has_gates or not is_squeeze(op)
    return not is_squeeze(op)


def _is_adaptive(op: Op) -> bool:
    """Whether a mean is over windows that are gathered at fixed places: adaptive average pooling, as torch's newer
    exporter decomposes it where the output's size is no divisor of the map's.
    """
    windows, _ = behind_views(op.input(0))
    gather = windows.producer if windows is not None else None
    if op.op_type != "ReduceMean" or gather is None or gather.op_type != "GatherND":
        return False
    data, places = gather.input(0), gather.input(1)
    return data is not None and not data.is_const and places is not None and places.is_const
