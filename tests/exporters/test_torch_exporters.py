"""What torch's exporters get wrong by themselves: refused by name, or exported by the other one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torchvision
from torch import nn
from torch_modules import assert_same, run, state

import onnx_ghn
from onnx_ghn.errors import GraphError
from onnx_ghn.exporters import pytorch
from onnx_ghn.inspection import inspect_model


def test_torch_prints_nothing_of_a_program_that_it_cannot_export(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor after an export of the user's own, which leaves torch's log on; it is on again then."""
    native: Any = torch._C
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(7))
    was_enabled = native._jit_is_onnx_log_enabled()
    try:
        for enabled in (False, True):
            native._jit_set_onnx_log_enabled(enabled)
            with pytest.raises(GraphError, match="adaptive_avg_pool2d"):
                pytorch.export(module, tmp_path / "m.onnx", torch.rand(1, 3, 4, 4), exporter="torchscript")
            assert capfd.readouterr() == ("", "")
            assert native._jit_is_onnx_log_enabled() == enabled
    finally:
        native._jit_set_onnx_log_enabled(was_enabled)


class Biased(nn.Module):
    """Attention with a bias that is computed from a trainable table, as T5, Swin and ALiBi do it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.table = nn.Parameter(torch.rand(4) if kind == "slopes" else torch.rand(20, 4))
        self.register_buffer("positions", torch.randint(0, 20, (5, 5)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (layer(x).view(1, 5, 4, 4).transpose(1, 2) for layer in self.layers)
        if self.kind == "embedding":
            bias = nn.functional.embedding(self.positions, self.table).permute(2, 0, 1)[None]
        elif self.kind == "window":
            bias = self.table[self.positions.view(-1)].view(5, 5, 4).permute(2, 0, 1).contiguous()[None]
        else:
            bias = (self.table[:, None, None] * self.positions)[None]
        out = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return out.transpose(1, 2).contiguous().reshape(1, 5, 16)


@pytest.mark.parametrize("kind", ["embedding", "window", "slopes"])
def test_a_computed_attention_bias_is_exported(kind: str, tmp_path: Path) -> None:
    """torch.export with gradients traces a layout of attention that its decompositions cannot view."""
    torch.manual_seed(0)
    net, x = Biased(kind).eval(), torch.randn(1, 5, 16)
    report = pytorch.export(net, tmp_path / "m.onnx", x, exporter="dynamo")
    assert report.complete
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), net(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo", "auto"])
def test_an_lstm_with_a_projection_is_refused(exporter: str, tmp_path: Path) -> None:
    module = nn.LSTM(6, 8, proj_size=3, batch_first=True)
    with pytest.raises(GraphError, match=r"LSTM with proj_size 3.*; use an LSTM without proj_size and a Linear"):
        pytorch.export(module, tmp_path / "m.onnx", torch.rand(1, 4, 6), exporter=exporter)
    assert not (tmp_path / "m.onnx").exists()


class Detour(nn.Module):
    """Values of an input leave torch on their way, or are never read.

    Args:
        way: of the second input.
    """

    def __init__(self, way: str) -> None:
        super().__init__()
        self.layer, self.way = nn.Linear(3, 3), way

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(B, 3), (B, 3) -> (B, 3)."""
        if self.way == "numpy":
            y = torch.from_numpy(y.detach().numpy())
        elif self.way == "item":
            y = torch.full((1, 3), y.sum().item())
        elif self.way == "copy":
            y = torch.tensor(y.tolist())
        return self.layer(x) if self.way == "unread" else self.layer(x) + y


PAIR = torch.rand(2, 3), torch.rand(2, 3)


@pytest.mark.parametrize("way", ["numpy", "item", "copy"])
def test_an_export_that_stores_what_came_of_an_input_is_refused(way: str, tmp_path: Path) -> None:
    module = Detour(way)
    before = state(module)
    with pytest.raises(GraphError, match=r"torchscript wrote depends on 1 of the 2 inputs.*try `exporter` dynamo"):
        pytorch.export(module, tmp_path / "m.onnx", PAIR, exporter="torchscript")
    assert_same(state(module), before)
    assert not (tmp_path / "m.onnx").exists()


def test_the_second_exporter_is_taken_where_the_first_loses_an_input(tmp_path: Path) -> None:
    module, path = Detour("numpy"), tmp_path / "m.onnx"
    assert "dynamo" in pytorch.export(module, path, PAIR).exporter
    x, y = torch.rand(2, 3), torch.rand(2, 3)
    np.testing.assert_allclose(run(path, x, y), module(x, y).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_an_input_that_the_module_does_not_read_is_no_fault(tmp_path: Path) -> None:
    module, path = Detour("unread"), tmp_path / "m.onnx"
    assert "torchscript" in pytorch.export(module, path, PAIR).exporter
    notes = pytorch.export(module, path, PAIR, exporter="dynamo", force=True).notes
    assert notes == ("no output of the file depends on its input 'y'",)


def test_a_module_without_inputs_is_exported(tmp_path: Path) -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.Parameter(torch.rand(4, 3))

        def forward(self) -> torch.Tensor:
            return self.rows.softmax(-1)

    assert pytorch.export(Table(), tmp_path / "m.onnx", ()).complete


class _TokenAhead(nn.Module):
    """Takes the first token apart, scales the others, and squeezes an axis whose size torch does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        token, others = torch.tensor_split(x.unsqueeze(1), indices=(1,), dim=2)
        return torch.cat((token, self.linear(others[:, :, ::2])), dim=2).squeeze(1)


def test_branches_whose_sizes_torch_guesses_wrongly_run(tmp_path: Path) -> None:
    module, path = _TokenAhead(), tmp_path / "model.onnx"
    x = torch.rand(1, 9, 8, generator=torch.Generator().manual_seed(0))
    pytorch.export(module, path, x, exporter="torchscript")
    assert any(node.op_type == "If" for node in onnx.load(path).graph.node)
    assert run(path, x) == pytest.approx(module(x).detach().numpy(), abs=1e-6)


class _Namesakes(nn.Module):
    """Parameters called as an operator's result and as the input are."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Parameter(torch.randn(2, 4))
        self.x = nn.Parameter(torch.randn(2, 4))
        self.register_buffer("sign", torch.randn(4))
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).sign() * self.sign + self.linear * x - self.x


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_parameters_that_are_called_as_values_are(exporter: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path = _Namesakes(), tmp_path / "model.onnx"
    x = torch.randn(2, 4)
    pytorch.export(module, path, x, exporter=exporter)
    assert run(path, x) == pytest.approx(module(x).detach().numpy(), abs=1e-6)
    assert inspect_model(path).coverage.n_trainable == sum(parameter.numel() for parameter in module.parameters())
    onnx_ghn.predict(path, tmp_path / "filled.onnx", policy="all", calibrate="none")
    sign = module.sign.clone()
    pytorch.load(module, tmp_path / "filled.onnx")
    assert torch.equal(module.sign, sign)
    assert run(tmp_path / "filled.onnx", x) == pytest.approx(module(x).detach().numpy(), abs=1e-5)


class _Listed(nn.Module):
    """Reads its parameters and a buffer through a list and a dict, which torch.export takes for constants."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))
        self.frozen = nn.Parameter(torch.randn(4), requires_grad=False)
        self.register_buffer("offset", torch.randn(4))
        self.factors, self.others = [self.first, self.second], {"offset": self.offset, "frozen": self.frozen}
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for factor in self.factors:
            x = torch.tanh(x * factor)
        return self.layer(x + self.others["offset"]) * self.others["frozen"]


def test_parameters_in_a_list_are_parameters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path, x = _Listed(), tmp_path / "model.onnx", torch.randn(2, 4)
    pytorch.export(module, path, x, exporter="dynamo")
    assert sum(tensor.name.startswith("lifted_tensor") for tensor in onnx.load(path).graph.initializer) == 4
    assert inspect_model(path).coverage.n_trainable == 4 + 4 + 16 + 4
    before = {name: value.clone() for name, value in module.state_dict().items()}
    pytorch.initialize(module, x, policy="all", calibrate="none", exporter="dynamo")
    kept = {name for name, value in module.state_dict().items() if torch.equal(value, before[name])}
    assert kept == {"frozen", "offset"}


class _Deformed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Conv2d(3, 18, 3, padding=1)
        self.layer = torchvision.ops.DeformConv2d(3, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, self.offset(x))


def test_an_operator_of_a_later_opset_gets_that_opset(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path, x = _Deformed(), tmp_path / "model.onnx", torch.rand(1, 3, 8, 8)
    pytorch.export(module, path, x, exporter="dynamo")
    assert onnx.load(path).opset_import[0].version == 19
    assert run(path, x) == pytest.approx(module(x).detach().numpy(), abs=1e-5)
    pytorch.export(nn.Linear(3, 4), path, torch.rand(1, 3), exporter="dynamo", force=True)
    assert onnx.load(path).opset_import[0].version == 18
