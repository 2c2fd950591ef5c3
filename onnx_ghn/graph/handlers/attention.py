"""Attention: the weighted sum after Softmax, and the operators that do all of it at once."""

from __future__ import annotations

from onnx_ghn.graph.context import BuildContext, vector
from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.graph.handlers.convolution import add_bias
from onnx_ghn.graph.layout import Layout
from onnx_ghn.graph.model import Primitive
from onnx_ghn.graph.neighbours import behind_views, softmax_before
from onnx_ghn.graph.parameter import Role

__all__ = ["contrib_attention", "fused_attention", "weighted_sum"]


def weighted_sum(ctx: BuildContext, op: Op) -> None:
    """A product of two data tensors: msa where one of them is behind a Softmax, else dropped."""
    softmax = softmax_before(op.input(0)) or softmax_before(op.input(1))
    sources = ctx.union(op.inputs)
    if softmax is None or not sources or (_scaled_twice(ctx, softmax) and not ctx.rules.fused_attention):
        ctx.drop(op)
        return
    ctx.finish(op, ctx.add_node(Primitive.msa, sources, name=op.name))


def fused_attention(ctx: BuildContext, op: Op) -> None:
    """Attention (opset 23), MultiHeadAttention, GroupQueryAttention: queries, keys and values come in projected."""
    sources = ctx.union(op.inputs)
    if op.op_type == "MultiHeadAttention" and op.input(3) is not None:
        sources = add_bias(ctx, op, op.input(3), sources)
    if ctx.rules.fused_attention:
        sources = ctx.add_node(Primitive.msa, sources, name=op.name)
    ctx.finish(op, sources)


def contrib_attention(ctx: BuildContext, op: Op) -> None:
    """com.microsoft Attention: projection (in × 3·features), bias and attention in one."""
    weight = op.input(1)
    sources = ctx.sources(op.input(0))
    if weight is not None and weight.is_const:

        def canonical(layout: Layout) -> Layout:
            return layout.transpose((1, 0))

        claim = ctx.claim(weight, Role.weight, op, canonical)
        sources = ctx.add_node(Primitive.conv, sources, name=claim.name, shape=claim.shape, weight=claim.index)
    bias = op.input(2)
    if bias is not None:
        claim = ctx.claim(bias, Role.bias, op, vector)
        sources = ctx.add_node(Primitive.bias, sources, name=claim.name, shape=claim.shape, shift=claim.index)
    ctx.finish(op, ctx.add_node(Primitive.msa, sources, name=op.name))


def _scaled_twice(ctx: BuildContext, softmax: Op) -> bool:
    """Whether queries and keys are both scaled before their product.

    So both of torch's exporters write scaled_dot_product_attention (each operand times d^-1/4); attention written
    by hand scales one operand, or the product.
    """
    scores = softmax.input(0)
    for _ in range(8):
        scores, _n = behind_views(scores)
        product = scores.producer if scores is not None else None
        if product is None:
            return False
        if product.op_type == "MatMul":
            return all(_is_scaled(ctx, operand) for operand in product.inputs)
        if product.op_type not in ("Add", "Where", "Mul", "Div"):
            return False
        data = [t for t in product.inputs if t is not None and ctx.sources(t)]
        scores = data[0] if data else None
    return False


def _is_scaled(ctx: BuildContext, operand: Tensor | None) -> bool:
    origin, _ = behind_views(operand)
    op = origin.producer if origin is not None else None
    return op is not None and op.op_type in ("Mul", "Div") and sum(bool(ctx.sources(t)) for t in op.inputs) == 1
