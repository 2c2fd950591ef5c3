"""Depthwise convolution and average pooling with a backward pass that is fast on CPUs.

oneDNN has a fast weight gradient for 3 × 3 depthwise kernels without dilation alone, and no fast data gradient for
bfloat16 or dilated ones: the other cases take 20 to 100 times as long as the forward pass (benchmarks/train_step.py
prints them). All are brought to those two: a 5 × 5 gradient is four 3 × 3 ones on shifted images, a dilated one is an
ordinary one on every second pixel, and the data gradient is a forward pass with the kernel turned around.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["avg_pool2d", "depthwise_conv2d", "memory_format"]

_SIDES = (3, 5)


def depthwise_conv2d(x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int = 1) -> Tensor:
    """`F.conv2d` with as many groups as channels.

    Args:
        x: (B, C, H, W).
        weight: (C, 1, k, k).

    Returns:
        (B, C, H', W').
    """
    side = weight.shape[-1]
    regular = side in _SIDES and weight.shape[-2] == side and padding <= dilation * (side - 1)
    if x.device.type != "cpu" or not regular or (dilation > 1 and stride not in (1, dilation)):
        return F.conv2d(x, weight, None, stride, padding, dilation, x.shape[1])
    result: Tensor = _Depthwise.apply(x, weight, stride, padding, dilation)
    return result


def avg_pool2d(x: Tensor, side: int, stride: int, padding: int) -> Tensor:
    """`F.avg_pool2d` with count_include_pad off. On CPUs, with stride 1, a depthwise convolution: it is faster.

    Args:
        x: (B, C, H, W).

    Returns:
        (B, C, H', W').
    """
    if x.device.type == "cuda" and padding:
        # Until July 2026 torch's gradient of padded channels-last maps was wrong on GPUs (pytorch issue 188344).
        y = F.avg_pool2d(x.contiguous(), side, stride, padding, count_include_pad=False)
        return y.contiguous(memory_format=memory_format(x))
    if x.device.type != "cpu" or stride > 1 or side not in _SIDES or 2 * padding >= side:
        return F.avg_pool2d(x, side, stride, padding, count_include_pad=False)
    with torch.no_grad():
        weight = torch.full((x.shape[1], 1, side, side), 1 / side**2, dtype=x.dtype)
        # At the borders fewer pixels are averaged than the kernel has.
        ones = x.new_ones((1, 1, *x.shape[2:]), dtype=torch.float32)
        share = F.avg_pool2d(ones, side, stride, padding)  # (1, 1, H', W')
    summed: Tensor = _Depthwise.apply(x, weight, stride, padding, 1)
    return summed * share.reciprocal().to(x.dtype)


def memory_format(x: Tensor) -> torch.memory_format:
    """The memory format of a (B, C, H, W) map: channels last, or contiguous."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, dilation
        return F.conv2d(x, weight, None, stride, padding, dilation, x.shape[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        d_x = _data_gradient(x, weight, grad, *ctx.geometry) if ctx.needs_input_grad[0] else None
        d_weight = _weight_gradient(x, weight, grad, *ctx.geometry) if ctx.needs_input_grad[1] else None
        return d_x, d_weight, None, None, None


def _data_gradient(x: Tensor, weight: Tensor, grad: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    span = dilation * (weight.shape[-1] - 1)
    if stride > 1:  # as if the stride were 1, and what it skips had no gradient
        sizes = [size + 2 * padding - span for size in x.shape[2:]]
        spread = torch.zeros((*grad.shape[:2], *sizes), dtype=grad.dtype).contiguous(memory_format=torch.channels_last)
        spread[:, :, ::stride, ::stride] = grad
        grad = spread
    return F.conv2d(grad, weight.flip(2, 3), None, 1, span - padding, dilation, x.shape[1])


def _weight_gradient(x: Tensor, weight: Tensor, grad: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    side = weight.shape[-1]
    x = F.pad(x, (padding,) * 4) if padding else x
    if dilation > 1:
        if stride == 1:
            x, grad = (_every(t, dilation) for t in (x, grad))
        else:  # the stride visits every `dilation`-th pixel alone
            x = x[:, :, ::stride, ::stride]
            stride = 1
    height, width = (stride * (size - 1) + 3 for size in grad.shape[2:])
    result = weight.new_empty(weight.shape)
    starts = range(0, side - 2, 2)
    corner = weight[:, :, :3, :3]  # its shape is all that matters
    for row, column in itertools.product(starts, starts):
        part = x[:, :, row : row + height, column : column + width].contiguous(memory_format=torch.channels_last)
        _, d_part, _ = torch.ops.aten.convolution_backward(
            grad, part, corner, None, [stride] * 2, [0, 0], [1, 1], False, [0, 0], x.shape[1], (False, True, False)
        )
        result[:, :, row : row + 3, column : column + 3] = d_part
    return result


def _every(x: Tensor, step: int) -> Tensor:
    """(B, C, H, W) -> (step² B, C, H / step, W / step): an image for each offset, of every `step`-th pixel."""
    height, width = x.shape[2:]
    x = F.pad(x, (0, -width % step, 0, -height % step))
    x = torch.unflatten(torch.unflatten(x, 2, (-1, step)), 4, (-1, step))  # (B, C, H', step, W', step)
    return x.permute(0, 3, 5, 2, 4, 1).flatten(0, 2).contiguous().permute(0, 3, 1, 2)
