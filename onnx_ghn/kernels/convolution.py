"""Convolutions of networks that are run once, on GPUs.

cuDNN plans a convolution of sizes that it has not met before it runs it, and training a GHN meets new sizes with every
network: planning took 90 % of the time of a step (benchmarks/train_step.py --device cuda --cudnn prints it). A matrix
product needs no plan, and torch has depthwise kernels of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["conv2d", "product_conv2d", "without_plans"]

#: Pixels a side of the largest images for which planning takes longer than what it saves.
_SMALL = 64


@contextlib.contextmanager
def without_plans(images: Tensor) -> Iterator[None]:
    """A context in which passes over small images on a GPU, forward and backward, do without cuDNN; others keep it.

    Args:
        images: (B, 3, H, W) of those networks.
    """
    if images.device.type != "cuda" or images.shape[-1] > _SMALL:
        yield
        return
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False  # process-wide: the backward pass runs in a thread of its own
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    """`F.conv2d`: as a matrix product where a GPU does without cuDNN.

    Args:
        x: (B, C, H, W).
        weight: (O, C / groups, k, l).

    Returns:
        (B, O, H', W').
    """
    planned = x.device.type != "cuda" or torch.backends.cudnn.enabled
    depthwise = 1 < groups == x.shape[1]
    if planned or depthwise or isinstance(padding, str):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    return product_conv2d(x, weight, bias, _pair(stride), _pair(padding), _pair(dilation), groups)


def product_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """See `conv2d`. All windows are laid out, in k · l times the memory of x; channels come last in memory."""
    out, _, height, width = weight.shape
    if any(padding):
        x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    windows = x.permute(0, 2, 3, 1)  # (B, H, W, C)
    if height == width == 1:
        windows = windows[:, :: stride[0], :: stride[1]]
    else:
        spans = [step * (side - 1) + 1 for step, side in zip(dilation, (height, width), strict=True)]
        windows = windows.unfold(1, spans[0], stride[0]).unfold(2, spans[1], stride[1])  # (B, H', W', C, k, l)
        windows = windows[..., :: dilation[0], :: dilation[1]]
    flat = windows.flatten(3)  # (B, H', W', C · k · l)
    if groups == 1:
        return F.linear(flat, weight.flatten(1), bias).permute(0, 3, 1, 2)
    grouped = torch.unflatten(flat, 3, (groups, -1)).flatten(0, 2).transpose(0, 1)  # (g, B · H' · W', C / g · k · l)
    kernels = torch.unflatten(weight.flatten(1), 0, (groups, -1)).transpose(1, 2)  # (g, C / g · k · l, O / g)
    y = torch.bmm(grouped, kernels).transpose(0, 1).reshape(*flat.shape[:3], out)  # (B, H', W', O)
    return (y if bias is None else y + bias).permute(0, 3, 1, 2)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
