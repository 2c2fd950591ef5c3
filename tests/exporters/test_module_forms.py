"""The forms in which PyTorch modules come, and that an export leaves them as they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch_modules import IMAGE, small, state

import onnx_ghn
from onnx_ghn.errors import OptionError
from onnx_ghn.exporters import pytorch


class Counting(nn.Module):
    """Counts its calls, in place and by another tensor, and averages what it sees, in whichever mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("others", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("average", torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        self.others = self.others + 1
        y = self.conv(x).mean((2, 3))
        self.average.mul_(0.9).add_(y.detach().mean(0), alpha=0.1)
        return y + self.average


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_a_module_that_counts_is_as_before(exporter: Any, tmp_path: Path) -> None:
    module, x = Counting(), torch.ones(2, 3, 8, 8)
    buffers = dict(module.named_buffers())
    pytorch.export(module, tmp_path / "m.onnx", x, exporter=exporter)
    onnx_ghn.initialize(module, x, exporter=exporter, policy="all")
    assert all(module.get_buffer(name) is buffer and not buffer.any() for name, buffer in buffers.items())
    module(x)
    assert (int(module.calls), int(module.others), bool(module.average.any())) == (1, 1, True)


def test_weights_of_inference_mode_are_refused() -> None:
    with torch.inference_mode():
        module = nn.Linear(3, 2)
    with pytest.raises(OptionError, match=r"weight 'weight' was made in torch.inference_mode\(\)"):
        onnx_ghn.initialize(module, torch.ones(1, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_modules_of_other_precision_are_filled_by_a_copy(dtype: torch.dtype) -> None:
    """They get what the module in float32 gets, rounded; what is left out keeps its last digit."""
    module, usual = small().to(dtype), small()
    usual.load_state_dict({name: tensor.float() for name, tensor in module.state_dict().items()})
    before = state(module)
    first = module.conv.weight
    pytorch.initialize(usual, IMAGE, policy="all", exclude=["lstm"], seed=1)
    pytorch.initialize(module, IMAGE.to(dtype), policy="all", exclude=["lstm"], seed=1)
    assert module.conv.weight is first
    for name, tensor in module.state_dict().items():
        assert tensor.dtype == before[name].dtype
        expected = before[name] if "lstm" in name else usual.state_dict()[name].to(tensor.dtype)
        torch.testing.assert_close(tensor, expected, rtol=0, atol=0)
    assert not torch.equal(first, before["conv.weight"])


def test_a_module_that_is_trained_in_parallel(tmp_path: Path) -> None:
    """Its wrapper is no part of the network, but its weights are."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    try:
        inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
        before = state(inner)
        initialization = pytorch.initialize(nn.parallel.DistributedDataParallel(inner), IMAGE, policy="all")
    finally:
        distributed.destroy_process_group()
    assert initialization.coverage.share("predicted") == 1
    assert not torch.equal(inner[0].weight, before["0.weight"])


def test_a_module_that_torch_export_made() -> None:
    program = torch.export.export(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval(), (IMAGE,))
    module = program.module()
    before = state(module)
    assert pytorch.initialize(module, IMAGE, policy="all").coverage.share("predicted") == 1
    assert not torch.equal(module.state_dict()["0.weight"], before["0.weight"])


@pytest.mark.parametrize("normalise", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_spectral_norms_are_those_of_the_new_weights(normalise: Callable[[nn.Module], nn.Module]) -> None:
    """In training mode a step of the power iteration would be made, and hide vectors of other weights."""
    torch.manual_seed(0)
    layer = normalise(nn.Conv2d(3, 16, 3))
    pytorch.initialize(layer, IMAGE, policy="all")
    layer.eval()(IMAGE)
    assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1, rel=1e-4)
