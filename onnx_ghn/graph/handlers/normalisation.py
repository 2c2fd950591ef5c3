"""Normalisation layers: one node whose scale and shift are decoded together."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_ghn.graph.context import BuildContext, Claim, vector
from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.graph.folding import array_of
from onnx_ghn.graph.handlers.convolution import add_bias
from onnx_ghn.graph.model import Primitive, RunningNorm
from onnx_ghn.graph.parameter import Role
from onnx_ghn.graph.patterns import NormMatch
from onnx_ghn.graph.weights import leaves, main_leaf, per_channel, static_shape, unrepeated

__all__ = ["batch_norm", "body_obstacle", "decomposed_norm", "layer_norm", "rms_norm", "skip_norm"]


def batch_norm(ctx: BuildContext, op: Op) -> None:
    """BatchNormalization: scale, shift, and the running statistics, which are never predicted."""
    # An instance norm with running statistics is a batch norm of all images' channels: its vectors are repeated.
    given = [unrepeated(tensor) if tensor is not None else None for tensor in (op.input(i) for i in range(1, 5))]
    if _normalises_alone(given):
        ctx.bare_norms.add(op.outputs[0])
        ctx.finish(op, ctx.sources(op.input(0)))
        return
    sources = _node(ctx, op, Primitive.bn, ctx.sources(op.input(0)), given[0], given[1])
    mean, variance = (ctx.claim(statistic, Role.statistic, op, vector).name for statistic in given[2:])
    if mean and variance and not op.attr("training_mode", 0):  # in that mode it measures its own
        scale, shift = (_main_name(tensor) for tensor in given[:2])
        ctx.norms.append(RunningNorm(mean, variance, scale, shift, obstacle=body_obstacle(op)))
    ctx.finish(op, sources)


def _normalises_alone(given: Sequence[Tensor | None]) -> bool:
    """Whether statistics are computed from the data, and scale and shift are a number each, for as many channels as
    there are tokens: Keras 2 writes a layer norm so, and its own scale and shift come behind.
    """
    stored = [tensor for tensor in given if tensor is not None and tensor.is_const]
    return all(tensor not in stored for tensor in given[2:]) and all(
        static_shape(tensor) in ((), (1,)) for tensor in stored
    )


def body_obstacle(op: Op) -> str:
    """Why no trial run measures what an operator sees: bodies are run at most in part; "" where one does."""
    return f"it stands in the body of {op.body}, which a trial run may not enter" if op.body else ""


def _main_name(value: Tensor | None) -> str:
    leaf = main_leaf(value) if value is not None else None
    return leaf.tensor.name if leaf is not None else ""


def layer_norm(ctx: BuildContext, op: Op) -> None:
    """LayerNormalization, GroupNormalization, InstanceNormalization: an ln node."""
    scale, shift = op.input(1), op.input(2)
    if op.op_type == "InstanceNormalization" and (affine := _group_affine(op)) is not None:
        product, shifted = affine
        for tensor, role, literal in ((scale, Role.norm_scale, 1), (shift, Role.norm_bias, 0)):
            if tensor is not None and not _all_equal(tensor, literal):  # ones and zeros are the identity: nobody's
                ctx.claim(tensor, role, op, vector, reason="inside a group normalisation")
        scale, shift = (next((t for t in some.inputs if t is not None and t.is_const), None) for some in affine)
        ctx.absorbed.update((product, shifted))
    ctx.finish(op, _node(ctx, op, Primitive.ln, ctx.sources(op.input(0)), scale, shift))


def _group_affine(op: Op) -> tuple[Op, Op] | None:
    """The scale and the shift of a group normalisation as torch writes it before opset 21.

    Reshape to groups, InstanceNormalization by ones and zeros, Reshape back, Mul by γ, Add β.
    """
    before = op.input(0)
    if before is None or before.producer is None or before.producer.op_type != "Reshape":
        return None
    affine = []
    for expected in ("Reshape", "Mul", "Add"):
        users = op.outputs[0].consumers
        if len(users) != 1 or users[0].op_type != expected:
            return None
        op = users[0]
        constants = [t for t in op.inputs if t is not None and t.is_const]
        if expected != "Reshape":
            if len(constants) != 1 or not per_channel(static_shape(constants[0])):
                return None
            affine.append(op)
    return affine[0], affine[1]


def _all_equal(constant: Tensor, number: float) -> bool:
    value = array_of(constant)
    return value is not None and bool((value == number).all())


def rms_norm(ctx: BuildContext, op: Op) -> None:
    """RMSNormalization and SimplifiedLayerNormalization: an ln node without a shift."""
    ctx.finish(op, _node(ctx, op, Primitive.ln, ctx.sources(op.input(0)), op.input(1), None))


def skip_norm(ctx: BuildContext, op: Op) -> None:
    """com.microsoft Skip(Simplified)LayerNormalization and SkipGroupNorm: a sum, a bias where one is given, a norm."""
    if op.op_type == "SkipGroupNorm":
        skip, scale, shift, bias = op.input(3), op.input(1), op.input(2), op.input(4)
    elif op.op_type.startswith("SkipSimplified"):
        skip, scale, shift, bias = op.input(1), op.input(2), None, op.input(3)
    else:
        skip, scale, shift, bias = (op.input(index) for index in range(1, 5))
    summed = ctx.union([op.input(0), skip])
    if len(summed) > 1:
        summed = ctx.add_node(Primitive.sum, summed, name=op.name)
    summed = add_bias(ctx, op, bias, summed)
    ctx.finish(op, summed)  # outputs after the first: the sum itself
    ctx.set_sources(op.outputs[0], _node(ctx, op, Primitive.ln, summed, scale, shift))


def decomposed_norm(ctx: BuildContext, match: NormMatch) -> frozenset[int]:
    """A normalisation found by structure (`patterns.find_norms`): the sources of its output."""
    op = match.exit.producer
    assert op is not None  # the exit of a region is computed in it
    primitive = Primitive.bn if match.over_batch else Primitive.ln
    return _node(ctx, op, primitive, ctx.sources(match.root), match.scale, match.shift)


def _node(
    ctx: BuildContext, op: Op, primitive: Primitive, sources: frozenset[int], scale: Tensor | None, shift: Tensor | None
) -> frozenset[int]:
    scaled = ctx.claim(scale, Role.norm_scale, op, vector)
    shifted = ctx.claim(shift, Role.norm_bias, op, vector)
    if shift is not None:
        for leaf in leaves(shift)[1:]:  # β − μ·γ/σ: a mean behind the shift
            ctx.register(leaf, Role.statistic, op, vector(leaf.layout))
    shape = scaled.shape or shifted.shape
    if shape is None or _is_trivial(scaled, shifted):  # without parameters: nothing to decode
        return sources
    name = scaled.name or shifted.name or op.name
    return ctx.add_node(
        primitive, sources, name=name, shape=(math.prod(shape),), scale=scaled.index, shift=shifted.index
    )


def _is_trivial(scaled: Claim, shifted: Claim) -> bool:
    return math.prod(scaled.shape or (1,)) <= 1 and math.prod(shifted.shape or (1,)) <= 1 and scaled.index is None
