"""Gemm, MatMul, Einsum and their fused forms: canonical weights are out × in."""

from __future__ import annotations

import math
from collections.abc import Callable

from onnx_ghn.graph.channel_maps import flattened_map
from onnx_ghn.graph.context import BuildContext
from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.graph.handlers.attention import weighted_sum
from onnx_ghn.graph.handlers.convolution import add_bias
from onnx_ghn.graph.layout import Layout
from onnx_ghn.graph.model import Primitive
from onnx_ghn.graph.parameter import Role

__all__ = ["einsum", "gemm", "linear_node", "matmul"]


def gemm(ctx: BuildContext, op: Op) -> None:
    """Gemm: A·B + C with either transposed; whichever of A and B is constant is the weight."""
    left, right = op.input(0), op.input(1)
    if right is not None and right.is_const:
        after = linear_node(
            ctx, op, left, right, lambda layout: _out_in(layout, not op.attr("transB", 0)), data_first=True
        )
    elif left is not None and left.is_const:
        after = linear_node(ctx, op, right, left, lambda layout: _out_in(layout, bool(op.attr("transA", 0))))
    else:
        after = ctx.union([left, right])
    ctx.finish(op, add_bias(ctx, op, op.input(2), after))


def matmul(ctx: BuildContext, op: Op) -> None:
    """MatMul and FusedMatMul. Two data inputs: a weighted sum of attention, or nothing that is a node."""
    left, right = op.input(0), op.input(1)
    if right is not None and right.is_const and left is not None:
        swap = not op.attr("transB", 0)
        ctx.finish(op, linear_node(ctx, op, left, right, lambda layout: _out_in(layout, swap), data_first=True))
    elif left is not None and left.is_const and right is not None:
        swap = bool(op.attr("transA", 0))
        ctx.finish(op, linear_node(ctx, op, right, left, lambda layout: _out_in(layout, swap)))
    else:
        weighted_sum(ctx, op)


def einsum(ctx: BuildContext, op: Op) -> None:
    """Einsum of data and one constant: the letters that the output lacks are the fan-in."""
    data = [t for t in op.inputs if t is not None and not t.is_const]
    constants = [(i, t) for i, t in enumerate(op.inputs) if t is not None and t.is_const]
    equation = op.attr("equation", "").replace(" ", "")
    if len(data) == 2 and not constants:
        weighted_sum(ctx, op)
        return
    if len(data) != 1 or len(constants) != 1 or "->" not in equation:
        ctx.drop(op)
        return
    place, weight = constants[0]
    terms, output = equation.split("->")
    letters = terms.split(",")[place]
    if "." in letters:
        ctx.drop(op)
        return

    def canonical(layout: Layout) -> Layout:
        out = [i for i, letter in enumerate(letters) if letter in output]
        inner = [i for i, letter in enumerate(letters) if letter not in output]
        shape = layout.canonical
        flat = (math.prod(shape[i] for i in out), math.prod(shape[i] for i in inner))
        return layout.transpose((*out, *inner)).reshape(flat)

    ctx.finish(op, linear_node(ctx, op, data[0], weight, canonical))


def linear_node(
    ctx: BuildContext,
    op: Op,
    data: Tensor | None,
    weight: Tensor,
    canonical: Callable[[Layout], Layout],
    *,
    data_first: bool = False,
) -> frozenset[int]:
    """A conv node for a linear weight (a 1 × 1 convolution, as in the published vocabulary).

    Args:
        data_first: data times weight, so that the last axis of data is the weight's inputs.
    """
    claims = ctx.claim_parts(weight, Role.weight, op, canonical)
    for claim in claims if data_first else []:
        flattened = flattened_map(data, claim.shape[-1]) if claim.index is not None and claim.shape else None
        if flattened is not None:
            ctx.describe(claim.name, flattened=flattened)
    sources = ctx.sources(data)
    nodes = [
        ctx.add_node(Primitive.conv, sources, name=claim.name, shape=claim.shape, weight=claim.index)
        for claim in claims
        if claim.shape is not None
    ]
    return frozenset().union(*nodes) if nodes else sources


def _out_in(layout: Layout, swap: bool) -> Layout:
    """A matrix, or a stack of them (…, in, out), as out × in."""
    shape = layout.canonical
    rank = len(shape)
    if rank < 2:
        raise ValueError("a linear weight of rank below 2")
    if swap:
        layout = layout.transpose((*range(rank - 2), rank - 1, rank - 2))
    return layout.reshape((math.prod(layout.canonical[:-1]), layout.canonical[-1]))
