"""Convolutions of one to three dimensions, transposed ones too."""

from __future__ import annotations

import math
from collections.abc import Callable

from onnx_ghn.graph.context import BuildContext, vector
from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.graph.layout import Layout
from onnx_ghn.graph.model import Primitive
from onnx_ghn.graph.parameter import Role

__all__ = [
    "add_bias",
    "blocked_convolution",
    "causal_convolution",
    "convolution",
    "deformable_convolution",
    "transposed_convolution",
]

_BLOCKED = "stored in onnxruntime's own blocks of channels; predict the file that onnxruntime optimised instead"


def convolution(ctx: BuildContext, op: Op) -> None:
    """Conv, FusedConv, NhwcConv: weight out × in/groups × kernel; a bias node where a bias exists.

    Grouped is sep_conv, grouped and dilated along every axis dil_conv (facebookresearch/ppuda,
    ppuda/deepnets1m/graph.py, `get_conv_name`).
    """
    _weighted(ctx, op, _kernel)


def blocked_convolution(ctx: BuildContext, op: Op) -> None:
    """Conv of com.microsoft.nchwc, as onnxruntime's highest optimisation writes it: a kernel of the usual shape whose
    elements lie in blocks of channels, in an order that depends on the processor. It and its bias stay as they are.
    """
    _weighted(ctx, op, _kernel, reason=_BLOCKED, doubt=_BLOCKED)


def deformable_convolution(ctx: BuildContext, op: Op) -> None:
    """DeformConv: a convolution whose offsets (and mask) the net computes; the bias comes behind the offsets."""
    _weighted(ctx, op, _kernel, bias_at=3)


def causal_convolution(ctx: BuildContext, op: Op) -> None:
    """CausalConvWithState (opset 27): channels × 1 × k, a kernel for each channel."""
    _weighted(ctx, op, _kernel, depthwise=True)


def transposed_convolution(ctx: BuildContext, op: Op) -> None:
    """ConvTranspose: stored in × out/groups × kernel, canonical out × in/groups × kernel."""
    groups = op.attr("group", 1)

    def canonical(layout: Layout) -> Layout:
        n_in, n_out, *kernel = layout.canonical
        if groups > 1:
            axes = tuple(range(3, 3 + len(kernel)))
            split = layout.reshape((groups, n_in // groups, n_out, *kernel)).transpose((0, 2, 1, *axes))
            return _kernel(split.reshape((groups * n_out, n_in // groups, *kernel)))
        return _kernel(layout.transpose((1, 0, *range(2, 2 + len(kernel)))))

    _weighted(ctx, op, canonical)


def _weighted(
    ctx: BuildContext,
    op: Op,
    canonical: Callable[[Layout], Layout],
    *,
    bias_at: int = 2,
    depthwise: bool = False,
    reason: str = "",
    doubt: str = "",
) -> None:
    weight = op.input(1)
    if weight is None or not weight.is_const:  # a kernel that the net computes (dynamic convolution)
        ctx.drop(op)
        return
    claim = ctx.claim(weight, Role.weight, op, canonical, reason, doubt)
    primitive = Primitive.conv
    if op.attr("group", 1) > 1 or depthwise:
        dilated = min(op.attr("dilations") or [1]) > 1
        primitive = Primitive.dil_conv if dilated else Primitive.sep_conv
    after = ctx.add_node(primitive, ctx.union(op.inputs), name=claim.name, shape=claim.shape, weight=claim.index)
    ctx.finish(op, add_bias(ctx, op, op.input(bias_at), after, reason, doubt))


def add_bias(
    ctx: BuildContext, op: Op, bias: Tensor | None, after: frozenset[int], reason: str = "", doubt: str = ""
) -> frozenset[int]:
    """A bias node behind `after` where the bias is a constant. See `BuildContext.claim` for a reason and a doubt."""
    if bias is None or not bias.is_const:
        return after | ctx.sources(bias)
    claim = ctx.claim(bias, Role.bias, op, vector, reason, doubt)
    if claim.shape is None or (claim.index is None and math.prod(claim.shape) <= 1):
        return after
    return ctx.add_node(Primitive.bias, after, name=claim.name, shape=claim.shape, shift=claim.index)


def _kernel(layout: Layout) -> Layout:
    """out × in × kernel of any rank to out × in × kh × kw.

    A 1-D kernel stands upright (k × 1), as GHN-3's shape encoder has it; a 3-D one is a 2-D one repeated in depth.
    """
    shape = layout.canonical
    if len(shape) == 3:
        return layout.reshape((*shape, 1))
    if len(shape) == 5:
        return layout.transpose((2, 0, 1, 3, 4)).inflate()
    if len(shape) != 4:
        raise ValueError(f"a kernel of rank {len(shape)}")
    return layout
