"""Attention in bfloat16 on the CPU agrees with PyTorch's operator in float32, forward and backward."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch.nn import functional as F
from torch.onnx import TrainingMode

from onnx_ghn.deepnets1m.network import Operation
from onnx_ghn.kernels import attention


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


@pytest.mark.parametrize(("bfloat16", "tolerance"), [(False, 1e-5), (True, 0.03)])
def test_a_transformer_computes_the_same_in_training(bfloat16: bool, tolerance: float) -> None:
    torch.manual_seed(2)
    layer, x = Operation("msa", 0, 32, 32, 2), torch.randn(2, 32, 6, 6)
    with torch.no_grad():
        expected = layer.eval()(x)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            found = layer.train()(x)
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore")
def test_an_export_in_training_shows_the_softmax(tmp_path: Path) -> None:
    layer, target = Operation("msa", 0, 32, 32).train(), tmp_path / "layer.onnx"
    torch.onnx.export(layer, (torch.zeros(1, 32, 4, 4),), target, dynamo=False, training=TrainingMode.PRESERVE)
    assert "Softmax" in [node.op_type for node in onnx.load(target).graph.node]
