"""Batch norms that are written as arithmetic: scales, shifts and statistics come from a donor as an operator's do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from growing_nets import grow, trained
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

import onnx_ghn
from onnx_ghn.exporters import pytorch


class Written(nn.Module):
    """A batch norm in inference mode, in one of the forms in which frameworks write it."""

    def __init__(self, width: int, form: str, eps: float) -> None:
        super().__init__()
        self.form, self.eps = form, eps
        if form != "no scale":
            self.gamma = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))
        self.moving_mean = nn.Parameter(torch.zeros(width))
        self.moving_variance = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        shape = (1, -1, 1, 1)
        mean, variance, beta = (v.reshape(shape) for v in (self.moving_mean, self.moving_variance, self.beta))
        if self.form == "no scale":
            return (x - mean) / torch.sqrt(variance + self.eps) + beta
        gamma = self.gamma.reshape(shape)
        if self.form == "keras":
            return (x - mean) * (1 / torch.sqrt(variance + self.eps) * gamma) + beta
        if self.form == "quotient":
            return (x - mean) / torch.sqrt(variance + self.eps) * gamma + beta
        scale = gamma / torch.sqrt(variance + self.eps)
        return x * scale + (beta - mean * scale)


class Net(nn.Module):
    def __init__(self, width: int, form: str = "operator", eps: float = 1e-3, depth: int = 1) -> None:
        super().__init__()

        def norm() -> nn.Module:
            if form == "frozen":
                return FrozenBatchNorm2d(width, eps)
            return nn.BatchNorm2d(width, eps) if form == "operator" else Written(width, form, eps)

        self.stem, self.first = nn.Conv2d(3, width, 3, padding=1, bias=False), norm()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(depth))
        self.norms = nn.ModuleList(norm() for _ in range(depth))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 8, 8) -> (B, 5)."""
        x = torch.relu(self.first(self.stem(x)))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = x + norm(conv(x))
        answer: Tensor = self.head(x.mean((2, 3)))
        return answer


def grown(tmp_path: Path, recipient: nn.Module, donor: nn.Module) -> Any:
    torch.manual_seed(0)
    return grow(tmp_path, recipient, donor, torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("form", ["keras", "quotient", "no scale", "tensorflow", "frozen"])
def test_wider_and_deeper_networks_keep_their_outputs(form: str, tmp_path: Path) -> None:
    found = grown(tmp_path, Net(16, form, depth=2), Net(8, form))
    assert found.inheritance.is_exact, found.inheritance.doubts
    assert found.error <= 1e-5


@pytest.mark.parametrize(
    ("recipient", "donor"), [("keras", "operator"), ("operator", "keras"), ("tensorflow", "keras")]
)
def test_frameworks_take_each_others_norms(recipient: str, donor: str, tmp_path: Path) -> None:
    """Another epsilon goes into the scale, as between operators."""
    found = grown(tmp_path, Net(16, recipient, eps=1e-3), Net(8, donor, eps=1e-5))
    assert found.error <= 1e-5
    assert any("for another epsilon" in tensor.rule for tensor in found.inheritance.tensors.values())


def test_statistics_of_a_module_are_inherited_although_no_gradient_trains_them(tmp_path: Path) -> None:
    """The bridges mark buffers as what is not trained; those of a norm whose scale is trained go with it."""
    torch.manual_seed(0)
    donor, recipient = trained(Net(8)), Net(16).eval()
    example = torch.zeros(2, 3, 8, 8)
    for name, net in (("donor", donor), ("recipient", recipient)):
        pytorch.export(net, tmp_path / f"{name}.onnx", example)
    prediction = onnx_ghn.predict(tmp_path / "recipient.onnx", tmp_path / "out.onnx", donors=[tmp_path / "donor.onnx"])
    assert any("are kept, as far as floating point goes" in note for note in prediction.coverage.notes)
    x = torch.randn(2, 3, 8, 8)
    session = onnxruntime.InferenceSession(str(tmp_path / "out.onnx"))
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(y, donor(x).numpy(), atol=1e-5)
    pytorch.load(recipient, tmp_path / "out.onnx", example_inputs=example)
    with torch.no_grad():
        torch.testing.assert_close(recipient.eval()(x), donor(x), atol=1e-5, rtol=1e-5)
