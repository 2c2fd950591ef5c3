"""Networks that hold the norms of their weights apart, as donors and as recipients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from growing_nets import exported, run
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import onnx_ghn
from onnx_ghn.onnx_io import read_model, stored_tensors

X = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))


class ByHand(nn.Module):
    """(v * g) / |v|, in Equinox's order."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.v, self.g = nn.Parameter(torch.randn(n_out, n_in)), nn.Parameter(torch.rand(n_out, 1) + 0.5)
        self.bias = nn.Parameter(torch.randn(n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.v * self.g / self.v.norm(dim=1, keepdim=True), self.bias)


class Residual(nn.Module):
    def __init__(self, layer: Callable[[int, int], nn.Module], width: int, depth: int) -> None:
        super().__init__()
        self.enter, self.leave = layer(6, width), nn.Linear(width, 4)
        self.blocks = nn.ModuleList(
            nn.Sequential(layer(width, width), nn.ReLU(), layer(width, width)) for _ in range(depth)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = x + block(x)
        out: torch.Tensor = self.leave(x)
        return out


LAYERS: dict[str, Callable[[int, int], nn.Module]] = {
    "torch": lambda n_in, n_out: weight_norm(nn.Linear(n_in, n_out)),
    "by hand": ByHand,
    "without": nn.Linear,
}


def network(kind: str, width: int = 8, depth: int = 2) -> onnx.ModelProto:
    """One whose norms training has moved away from the lengths of the directions; some are negative."""
    torch.manual_seed(width + depth)
    module = Residual(LAYERS[kind], width, depth)
    for name, parameter in module.named_parameters():
        if name.endswith((".g", "original0")):
            parameter.data *= 0.5 + torch.rand(parameter.shape)
            parameter.data[0] *= -1
    return exported(module, X)


def inherited(recipient: onnx.ModelProto, donor: onnx.ModelProto, tmp_path: Path) -> onnx_ghn.Prediction:
    onnx.save(donor, tmp_path / "donor.onnx")
    prediction = onnx_ghn.predict(recipient, donors=[tmp_path / "donor.onnx"])
    prediction.save(tmp_path / "grown.onnx")
    outputs, expected = run(str(tmp_path / "grown.onnx"), (X,)), run(donor, (X,))
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    assert any("are kept" in note for note in prediction.coverage.notes)
    return prediction


@pytest.mark.parametrize("kind", ["torch", "by hand"])
@pytest.mark.parametrize(("width", "depth"), [(16, 2), (12, 2), (8, 4)])
def test_a_larger_network_keeps_outputs(kind: str, width: int, depth: int, tmp_path: Path) -> None:
    inherited(network(kind, width, depth), network(kind), tmp_path)


@pytest.mark.parametrize("kind", ["torch", "by hand"])
def test_the_same_network_has_what_the_donor_stores(kind: str, tmp_path: Path) -> None:
    donor = network(kind)
    onnx.save(donor, tmp_path / "m.onnx")
    onnx_ghn.strip(tmp_path / "m.onnx", tmp_path / "s.onnx")
    prediction = inherited(onnx.load(tmp_path / "s.onnx"), donor, tmp_path)
    found, expected = stored_tensors(prediction.model), stored_tensors(read_model(tmp_path / "m.onnx"))
    assert prediction.coverage.count("inherited") == len(found) == len(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name].numpy(), expected[name].numpy())


@pytest.mark.parametrize(("recipient", "donor"), [("without", "torch"), ("by hand", "without"), ("torch", "by hand")])
def test_layers_with_and_without_inherit_from_each_other(recipient: str, donor: str, tmp_path: Path) -> None:
    inherited(network(recipient, 16), network(donor), tmp_path)
