"""Parameters that a function bends before they weigh (logarithms, logits), and what resembles statistics or biases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from graph_models import Net
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import onnx_ghn
from onnx_ghn.exporters import pytorch
from onnx_ghn.graph import Role, build_graph
from onnx_ghn.inspection import inspect_model
from onnx_ghn.onnx_io import stored_tensors
from onnx_ghn.prediction.plan import Decision

CHANNELS = 8


class SnakeBeta(nn.Module):
    """x + sin²(x · eᵅ) / eᵝ, of BigVGAN."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(0.1 * torch.randn(CHANNELS))
        self.beta = nn.Parameter(0.1 * torch.randn(CHANNELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        alpha, beta = self.alpha[None, :, None].exp(), self.beta[None, :, None].exp()
        return x + (1 / (beta + 1e-9)) * torch.sin(x * alpha) ** 2


class Decay(nn.Module):
    """An LRU of three steps: state · exp(−eᵛ) + B · e^γ · x."""

    def __init__(self) -> None:
        super().__init__()
        self.nu = nn.Parameter(torch.randn(CHANNELS) - 3)
        self.matrix = nn.Parameter(torch.randn(CHANNELS, CHANNELS))
        self.log_gain = nn.Parameter(0.1 * torch.randn(CHANNELS) - 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        decay, state = torch.exp(-torch.exp(self.nu)), x[:, :, 0]
        for step in range(1, 3):
            state = decay * state + x[:, :, step] @ (self.matrix * self.log_gain.exp()[:, None]).t()
        return state


class Positive(nn.Module):
    """A monotone layer: x · softplus(W)ᵀ, and an affine step with the logarithm of its scale (a flow's ActNorm)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CHANNELS, CHANNELS))
        self.log_scale = nn.Parameter(0.1 * torch.randn(CHANNELS))
        self.shift = nn.Parameter(0.1 * torch.randn(CHANNELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.linear(x.transpose(1, 2), nn.functional.softplus(self.weight))
        return x * self.log_scale.exp() + self.shift


BENT = [
    (SnakeBeta, {"alpha": Role.other, "beta": Role.other}),
    (Decay, {"nu": Role.other, "log_gain": Role.other}),
    (Positive, {"weight": Role.weight, "log_scale": Role.other}),
]


def noted(net: nn.Module, x: torch.Tensor, path: Path, exporter: str = "torchscript") -> dict[str, Decision]:
    pytorch.export(net.eval(), path, x, exporter=exporter, force=True)
    coverage = inspect_model(path, policy="all").coverage
    assert coverage.n_trainable == sum(parameter.numel() for parameter in net.parameters())
    return {entry.parameter.name: entry for entry in coverage.entries}


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize(("make", "roles"), BENT)
def test_what_a_function_bends_keeps_its_start(
    make: type[nn.Module], roles: dict[str, Role], exporter: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net, path = make(), tmp_path / "net.onnx"
    found = noted(net, torch.randn(2, CHANNELS, 6), path, exporter)
    assert {name: found[name].parameter.role for name in roles} == roles
    assert {found[name].outcome for name in roles} == {"kept"}
    assert all("what a function makes of it" in found[name].reason for name in roles)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    pytorch.initialize(net, torch.randn(2, CHANNELS, 6), policy="all", calibrate="none", exporter=exporter)
    assert {name for name, value in net.named_parameters() if torch.equal(value, before[name])} >= set(roles)


def test_a_logarithm_without_notes_is_no_variance() -> None:
    """x / e^b with no word of who trains what: not a statistic that calibration would set."""
    rng = np.random.default_rng(0)
    draw = {"w": rng.standard_normal((4, 3, 3, 3)), "b": 0.1 * rng.standard_normal((1, 4, 1, 1))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Exp", ["b"], ["e"]),
        helper.make_node("Reciprocal", ["e"], ["r"]),
        helper.make_node("Mul", ["c", "r"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in draw.items()],
    )
    built = build_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    assert {parameter.name: parameter.role for parameter in built.parameters} == {"w": Role.weight, "b": Role.other}
    assert built.norms == ()


class Standardised(nn.Module):
    """Distances to learned centres, by learned scales: (h − c) / (s + 1), where a batch norm has μ and σ."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(CHANNELS, CHANNELS, 1)
        self.centre = nn.Parameter(torch.randn(CHANNELS, 1))
        self.scale = nn.Parameter(torch.rand(CHANNELS, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.layer(x) - self.centre) * (1 / (self.scale + 1))


def test_what_the_file_calls_a_parameter_is_no_statistic(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = noted(Standardised(), torch.randn(2, CHANNELS, 6), tmp_path / "net.onnx")
    assert {entry.parameter.role for entry in found.values()} == {Role.weight, Role.bias, Role.other}
    assert found["centre"].outcome == found["scale"].outcome == "kept"


class Rational(nn.Module):
    """(p₀ + p₁x + p₂x²) / (1 + |q₀x|) behind a layer, its coefficients in two lists."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(CHANNELS, CHANNELS)
        self.p = nn.Parameter(torch.tensor([0.2, 1.0, 1.3]))
        self.q = nn.Parameter(torch.tensor([0.3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        return (self.p[0] + self.p[1] * x + self.p[2] * x**2) / (1 + (self.q[0] * x).abs())


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_coefficients_in_a_list_are_neither_gains_nor_a_bias(exporter: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = noted(Rational(), torch.randn(2, CHANNELS), tmp_path / "net.onnx", exporter)
    assert (found["p"].parameter.role, found["p"].outcome) == (Role.other, "kept")


class Independent(nn.Module):
    """An IndRNN whose state begins with a learned vector: relu(W x + u · h)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(CHANNELS, CHANNELS)
        self.recurrent = nn.Parameter(torch.rand(CHANNELS))
        self.start = nn.Parameter(torch.randn(CHANNELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = self.start.expand(x.shape[0], CHANNELS)
        for step in range(3):
            state = torch.relu(self.layer(x[:, step]) + self.recurrent * state)
        return state


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_the_first_step_of_a_recurrence_tells_no_roles(exporter: str, tmp_path: Path) -> None:
    """There u · h is a constant, which is added as a bias is; the steps after it multiply data by u."""
    torch.manual_seed(0)
    path = tmp_path / "net.onnx"
    found = noted(Independent(), torch.randn(2, 3, CHANNELS), path, exporter)
    assert found["recurrent"].parameter.role is Role.norm_scale
    assert (found["start"].parameter.role, found["start"].outcome) == (Role.other, "kept")


class Mixed(nn.Module):
    """RWKV's token shift: m · x + (1 − m) · the token before, in front of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.rand(1, 1, CHANNELS))
        self.layer = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(x)
        before = nn.functional.pad(x, (0, 0, 1, -1))
        return self.layer(x * self.share + before * (1 - self.share))


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_a_share_of_two_values_is_no_scale(exporter: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = noted(Mixed(), torch.randn(2, 3, CHANNELS), tmp_path / "net.onnx", exporter)
    assert (found["share"].parameter.role, found["share"].outcome) == (Role.other, "kept")


def test_factors_that_turn_what_they_scale_keep_their_start() -> None:
    """exp(−γ · d) of a layer of distances, whose sign an exporter folded: filled with ones it grows without end."""
    net = Net()
    h = net.linear(net.input(None, 6), 6, 8, "w")
    narrow = net.weight(name="narrow", array=np.full(8, -1, np.float32))
    y = net.linear(net.op("Exp", net.op("Mul", net.op("Abs", h), narrow)), 8, 3, "head")
    model = net.model(y)
    rows = {entry.parameter.name: entry for entry in inspect_model(model, policy="all").coverage.entries}
    row = rows["narrow"]
    assert (row.outcome, row.parameter.role.value) == ("kept", "norm_scale")
    assert "all negative" in row.reason
    stored = stored_tensors(onnx_ghn.predict(model, policy="all").model)
    np.testing.assert_array_equal(stored["narrow"].numpy(), np.full(8, -1, np.float32))
