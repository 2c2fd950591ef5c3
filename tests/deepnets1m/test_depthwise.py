"""The fast backward pass gives autograd's gradients, in every geometry of the search space and beside it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from onnx_ghn.kernels.depthwise import avg_pool2d, depthwise_conv2d


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (2, 2), (1, 3)])
@pytest.mark.parametrize(("side", "stride", "padding", "dilation"), [
    (3, 1, 1, 1), (5, 1, 2, 1), (3, 1, 2, 2), (5, 1, 4, 2), (3, 2, 1, 1), (5, 2, 2, 1), (3, 2, 2, 2), (5, 2, 4, 2),
    (7, 1, 3, 1), (3, 1, 5, 1), (5, 3, 2, 1), (3, 3, 2, 2),
])  # fmt: skip
def test_gradients_are_autograds(size: tuple[int, int], side: int, stride: int, padding: int, dilation: int) -> None:
    generator = torch.Generator().manual_seed(side * stride + dilation)
    x = torch.randn(3, 6, *size, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, 1, side, side, generator=generator, dtype=torch.float64)
    results = []
    for function in (
        lambda a, b: depthwise_conv2d(a, b, stride, padding, dilation),
        lambda a, b: F.conv2d(a, b, None, stride, padding, dilation, 6),
    ):
        leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
        y = function(*leaves)
        y.backward(torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y).sin())
        results.append((y.detach(), leaves[0].grad, leaves[1].grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_gradients_of_bfloat16_in_channels_last() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 16, 12, 12, generator=generator)
    weight = torch.randn(16, 1, 5, 5, generator=generator)
    expected = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    F.conv2d(expected[0], expected[1], None, 2, 4, 2, 16).square().mean().backward()
    low = x.bfloat16().contiguous(memory_format=torch.channels_last)
    leaves = [low.requires_grad_(), weight.bfloat16().requires_grad_()]
    depthwise_conv2d(leaves[0], leaves[1], 2, 4, 2).float().square().mean().backward()
    for ours, theirs in zip(leaves, expected, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad.float(), theirs.grad, rtol=0.1, atol=0.03 * float(theirs.grad.abs().max()))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 10), (2, 2), (1, 3)])
@pytest.mark.parametrize("side", [3, 5, 7])
def test_average_pooling_is_torchs(side: int, size: tuple[int, int], stride: int) -> None:
    x = torch.randn(3, 6, *size, generator=torch.Generator().manual_seed(side), dtype=torch.float64)
    results = []
    for function in (
        lambda a: avg_pool2d(a, side, stride, side // 2),
        lambda a: F.avg_pool2d(a, side, stride, side // 2, count_include_pad=False),
    ):
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        y.backward(torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y).sin())
        results.append((y.detach(), leaf.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
