"""Attention in bfloat16 on the CPU agrees with PyTorch's operator in float32, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from onnx_ghn.deepnets1m import attention


@pytest.mark.parametrize("kept", [0, 1 << 25])
@pytest.mark.parametrize(("n", "chunk_elements"), [(9, 1), (9, 3 * 9 * 9), (40, 1 << 20), (64, 3 * 64 * 64)])
def test_agrees_with_the_fused_operator(
    n: int, chunk_elements: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_CHUNK_ELEMENTS", chunk_elements)
    monkeypatch.setattr(attention, "_KEPT_ELEMENTS", kept)
    generator = torch.Generator().manual_seed(1)
    plain = [torch.randn(2, 4, n, 8, generator=generator).bfloat16() for _ in range(4)]
    exact = [t.float().requires_grad_() for t in plain[:3]]
    expected = F.scaled_dot_product_attention(*exact)
    expected.backward(plain[3].float())
    leaves = [t.clone().requires_grad_() for t in plain[:3]]
    found = attention.attend(*leaves)
    found.backward(plain[3])
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
    for ours, theirs in zip(leaves, exact, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad.float(), theirs.grad, rtol=0.05, atol=0.05)
