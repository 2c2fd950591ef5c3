"""Convolutions as matrix products, against torch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from onnx_ghn.kernels.convolution import conv2d, product_conv2d, without_plans

pair = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.tuples(st.sampled_from([1, 2, 3, 5]), st.sampled_from([1, 3, 7])),
    stride=pair,
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    last=st.booleans(),
)
def test_values_and_gradients_are_those_of_a_convolution(
    kernel: Any, stride: Any, dilation: Any, padding: Any, groups: int, bias: bool, last: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 15, 14, dtype=torch.float64, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    weight = torch.randn(12, 8 // groups, *kernel, dtype=torch.float64, generator=generator)
    shift = torch.randn(12, dtype=torch.float64, generator=generator) if bias else None
    given_ = [t.requires_grad_() for t in (x, weight, shift) if t is not None]
    expected = F.conv2d(x, weight, shift, stride, padding, dilation, groups)
    found = product_conv2d(x, weight, shift, stride, padding, dilation, groups)
    torch.testing.assert_close(found, expected)
    way = torch.randn(expected.shape, dtype=torch.float64, generator=generator)
    for ours, theirs in zip(
        torch.autograd.grad(found, given_, way), torch.autograd.grad(expected, given_, way), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_products_keep_channels_last() -> None:
    x = torch.randn(2, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    y = product_conv2d(x, torch.randn(4, 8, 3, 3), None, (1, 1), (1, 1), (1, 1), 1)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_cpus_convolve_as_ever() -> None:
    x, weight = torch.randn(2, 4, 6, 6), torch.randn(4, 4, 3, 3)
    before = torch.backends.cudnn.enabled
    with without_plans(x):
        assert torch.backends.cudnn.enabled is before
        assert torch.equal(conv2d(x, weight, None, 1, 1), F.conv2d(x, weight, None, 1, 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_gpus_do_without_cudnn_for_small_images_alone() -> None:
    assert torch.backends.cudnn.enabled
    with without_plans(torch.zeros(1, 3, 224, 224, device="cuda")):
        assert torch.backends.cudnn.enabled
    with without_plans(torch.zeros(1, 3, 32, 32, device="cuda")):
        assert not torch.backends.cudnn.enabled
    assert torch.backends.cudnn.enabled
