"""Gains, shifts and vectors that are written as arithmetic are read as what they are, and filled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from graph_models import Net
from onnx import numpy_helper
from torch import nn

import onnx_ghn
from onnx_ghn.exporters import pytorch
from onnx_ghn.graph import ComputationGraph, Parameter, Role, build_graph
from onnx_ghn.inspection import inspect_model
from onnx_ghn.onnx_io import stored_tensors
from onnx_ghn.prediction.plan import Decision


def rows(net: nn.Module, x: torch.Tensor, path: Path, exporter: str = "torchscript") -> dict[str, Decision]:
    pytorch.export(net.eval(), path, x, exporter=exporter, force=True)
    return {entry.parameter.name: entry for entry in inspect_model(path, policy="all").coverage.entries}


def node_of(graph: ComputationGraph, name: str) -> tuple[str, int | None, int | None]:
    """The primitive of the node that decodes a parameter, and the parameters that it decodes as scale and shift."""
    index = [parameter.name for parameter in graph.parameters].index(name)
    node = next(node for node in graph.nodes if index in node.parameters)
    return node.primitive.name, node.scale, node.shift


class Groups(nn.Module):
    """A group norm of the last axis, as Keras writes it: scale and shift in the shape of the groups.

    Args:
        shape: of an input without its batch.
        later: scale and shift behind a view back to the channels, as Flax has them.
    """

    def __init__(self, shape: tuple[int, ...], n_groups: int, *, later: bool, centred: bool = True) -> None:
        super().__init__()
        *pixels, channels = shape
        self.grouped = (*pixels, n_groups, channels // n_groups)
        self.axes = [*range(1, len(shape)), len(shape) + 1]
        affine = (channels,) if later else (*(1 for _ in shape), n_groups, channels // n_groups)
        self.gain = nn.Parameter(1 + 0.1 * torch.randn(affine))
        self.shift = nn.Parameter(0.1 * torch.randn(affine)) if centred else None
        self.later, self.shape = later, shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, …, C) -> (B, …, C)."""
        x = x.reshape(-1, *self.grouped)  # (B, …, g, C/g)
        mean = x.mean(self.axes, keepdim=True)
        root = torch.rsqrt(((x - mean) ** 2).mean(self.axes, keepdim=True) + 1e-5)
        if self.later:
            x = ((x - mean) * root).reshape(-1, *self.shape) * self.gain
            return x if self.shift is None else x + self.shift
        root = root * self.gain
        shift = 0 if self.shift is None else self.shift
        return (x * root + (shift - mean * root)).reshape(-1, *self.shape)


GROUPS = {
    "images": ((6, 6, 8), 2),
    "images of four groups": ((6, 6, 8), 4),
    "sequences": ((5, 12), 3),
    "features": ((12,), 4),
    "volumes": ((3, 4, 4, 8), 2),
}


@pytest.mark.parametrize("later", [False, True], ids=["keras", "flax"])
@pytest.mark.parametrize("kind", GROUPS)
def test_a_group_norm_as_arithmetic_has_a_scale_and_a_shift(kind: str, later: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape, n_groups = GROUPS[kind]
    channels = shape[-1]
    net = nn.Sequential(nn.Linear(channels, channels), Groups(shape, n_groups, later=later), nn.Linear(channels, 3))
    found = rows(net, torch.rand(2, *shape), tmp_path / "m.onnx")
    assert {found[name].outcome for name in found} == {"predicted"}
    assert (found["1.gain"].parameter.role, found["1.shift"].parameter.role) == (Role.norm_scale, Role.norm_bias)
    assert found["1.gain"].parameter.layout.canonical == found["1.shift"].parameter.layout.canonical == (channels,)
    graph = build_graph(tmp_path / "m.onnx")
    names = [parameter.name for parameter in graph.parameters]
    assert node_of(graph, "1.gain") == ("ln", names.index("1.gain"), names.index("1.shift"))
    onnx_ghn.predict(tmp_path / "m.onnx", tmp_path / "o.onnx", policy="all", correct_scales=False)
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "o.onnx").graph.initializer}
    assert abs(stored["1.gain"].mean() - 1) < 0.5
    assert not np.array_equal(stored["1.gain"], net[1].gain.detach().numpy())


@pytest.mark.parametrize("kind", ["images", "sequences", "features"])
def test_a_group_norm_without_a_shift(kind: str, tmp_path: Path) -> None:
    shape, n_groups = GROUPS[kind]
    for later in (False, True):
        norm = Groups(shape, n_groups, later=later, centred=False)
        found = rows(nn.Sequential(norm, nn.Linear(shape[-1], 3)), torch.rand(2, *shape), tmp_path / "m.onnx")
        assert (found["0.gain"].parameter.role, found["0.gain"].outcome) == (Role.norm_scale, "predicted")
        assert node_of(build_graph(tmp_path / "m.onnx"), "0.gain")[0] == "ln"


@pytest.mark.parametrize(("n", "width"), [(5, 8), (4, 6), (7, 4)])
def test_positions_behind_a_norm_without_a_scale_are_no_shift(n: int, width: int, tmp_path: Path) -> None:
    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(width, width), nn.Linear(width, 3)
            self.places = nn.Parameter(0.1 * torch.randn(1, n, width))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """(B, n, width) -> (B, n, 3)."""
            x = self.first(x)
            x = x - x.mean(-1, keepdim=True)
            x = x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-5)
            return self.last(x + self.places)

    found = rows(Placed(), torch.rand(2, n, width), tmp_path / "m.onnx")
    assert found["places"].parameter.role is Role.position


@pytest.mark.parametrize(
    ("dims", "exporter"),
    [(1, "torchscript"), (2, "torchscript"), (3, "torchscript"), (1, "dynamo"), (2, "dynamo")],
)
def test_an_instance_norm_with_running_statistics(dims: int, exporter: str, tmp_path: Path) -> None:
    """It is a batch norm of all channels of all images; what is measured of these is the mean over the images."""
    torch.manual_seed(0)
    conv, norm = getattr(nn, f"Conv{dims}d"), getattr(nn, f"InstanceNorm{dims}d")
    layers = [conv(3, 8, 3), norm(8, affine=True, track_running_stats=True), nn.ReLU(), conv(8, 4, 1)]
    net, x = nn.Sequential(*layers), torch.rand(2, 3, *[6] * dims)
    found = rows(net, x, tmp_path / "m.onnx", exporter)
    assert (found["1.weight"].parameter.role, found["1.bias"].parameter.role) == (Role.norm_scale, Role.norm_bias)
    assert found["1.weight"].outcome == found["1.bias"].outcome == "predicted"
    assert found["1.running_mean"].outcome == found["1.running_var"].outcome == "statistic"
    onnx_ghn.predict(tmp_path / "m.onnx", tmp_path / "o.onnx", policy="all", calibrate="noise")
    pytorch.load(net, tmp_path / "o.onnx")
    with torch.no_grad():
        seen = net[0](torch.randn(512, *x.shape[1:])).transpose(0, 1).flatten(1)  # (8, values)
    torch.testing.assert_close(net[1].running_var, seen.var(1), rtol=0.4, atol=0)
    assert ((net[1].running_mean - seen.mean(1)).abs() < 0.3 * seen.std(1)).all()


class Heads(nn.Module):
    """A vector for each head, dotted with the features, as in graph attention.

    Args:
        shape: of the vectors.
        axis: over which the product is summed.
    """

    def __init__(self, shape: tuple[int, ...], axis: int | list[int], inputs: tuple[int, ...]) -> None:
        super().__init__()
        self.att, self.axis, self.inputs = nn.Parameter(torch.randn(shape)), axis, inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, …) -> (B, outputs)."""
        return (x.reshape(-1, *self.inputs) * self.att).sum(self.axis).flatten(1)


#: Shape of the vectors, summed axes of the product, shape of an input, (outputs, inputs) of the weight that they are.
DOTTED = {
    "heads": ((1, 2, 8), -1, (2, 8), (2, 8)),
    "four heads": ((1, 4, 6), -1, (4, 6), (4, 6)),
    "heads behind": ((1, 8, 3), 1, (8, 3), (3, 8)),
    "one head": ((1, 1, 8), -1, (2, 8), (1, 8)),
    "locally connected": ((1, 5, 4, 6, 9), [2, 4], (1, 4, 6, 9), (5 * 6, 4 * 9)),
    "a vector of weights for each feature": ((5, 7), 1, (5, 7), (7, 5)),
}


@pytest.mark.parametrize("kind", DOTTED)
def test_a_vector_that_is_dotted_with_features_is_a_weight(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape, axis, inputs, canonical = DOTTED[kind]
    net = nn.Sequential(nn.Linear(7, int(np.prod(inputs))), nn.ReLU(), Heads(shape, axis, inputs))
    with torch.no_grad():
        net.append(nn.Linear(net(torch.rand(1, 7)).shape[1], 3))
    found = rows(net, torch.rand(2, 7), tmp_path / "m.onnx")
    entry = found["2.att"]
    assert (entry.parameter.role, entry.outcome) == (Role.weight, "predicted")
    assert entry.parameter.layout.canonical == canonical
    weight = entry.parameter.layout.to_canonical(net[2].att.detach().numpy())  # (outputs, inputs)
    assert weight.shape == canonical
    x = torch.rand(1, *inputs)
    outputs = net[2](x).detach().numpy()[0]
    if kind in ("heads", "four heads"):
        np.testing.assert_allclose(outputs, np.einsum("hn,hn->h", weight, x[0].numpy()), rtol=1e-4, atol=1e-5)
    elif kind == "locally connected":
        expected = np.einsum("opcn,cpn->op", weight.reshape(5, 6, 4, 9), x[0, 0].numpy())
        np.testing.assert_allclose(outputs.reshape(5, 6), expected, rtol=1e-4, atol=1e-4)
    filled = onnx_ghn.predict(tmp_path / "m.onnx", policy="all")["2.att"]
    assert abs(filled.mean()) < 3 * filled.std() / np.sqrt(filled.size) + 0.1
    assert not np.array_equal(filled, net[2].att.detach().numpy())


class Gain(nn.Module):
    """A factor for each element."""

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.gain = nn.Parameter(values)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, …) -> (B, …)."""
        return x * self.gain


GAINS: dict[str, Callable[[], torch.Tensor]] = {
    "ones": lambda: torch.ones(4, 6, 6),
    "around one": lambda: 1 + 0.05 * torch.randn(1, 4, 6, 6),
    "of pixels": lambda: 1 + 0.2 * torch.randn(1, 1, 6, 6),
}


@pytest.mark.parametrize("kind", GAINS)
def test_a_learned_gain_of_each_element_starts_at_one(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Gain(GAINS[kind]()), nn.Flatten(), nn.Linear(144, 3))
    found = rows(net, torch.rand(2, 3, 8, 8), tmp_path / "m.onnx")
    entry = found["1.gain"]
    assert (entry.parameter.role, entry.outcome) == (Role.norm_scale, "fallback")
    filled = onnx_ghn.predict(tmp_path / "m.onnx", policy="all")["1.gain"]
    np.testing.assert_array_equal(filled, np.ones(entry.parameter.shape, np.float32))


def test_factors_that_are_not_around_one_or_not_known_to_be_learned_keep_their_values(tmp_path: Path) -> None:
    torch.manual_seed(0)
    values = torch.randn(4, 6, 6)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Gain(values), nn.Flatten(), nn.Linear(144, 3))
    assert rows(net, torch.rand(2, 3, 8, 8), tmp_path / "m.onnx")["1.gain"].outcome == "kept"
    net[1].gain.data = 1 + 0.05 * values
    pytorch.export(net, tmp_path / "n.onnx", torch.rand(2, 3, 8, 8))
    proto = onnx.load(tmp_path / "n.onnx")
    del proto.metadata_props[:]
    found: dict[str, Parameter] = {e.parameter.name: e.parameter for e in inspect_model(proto).coverage.uncertain}
    assert set(found) == {"1.gain"}


def prepared(*, first: bool) -> onnx.ModelProto:
    """(x + shift − mean) · scale, as Keras writes Rescaling and Normalization, before a linear layer or behind one."""
    net = Net()
    x = net.input(None, 6)
    h = x if first else net.linear(x, 6, 6, "before")
    h = net.op("Add", net.op("Mul", h, net.number(1 / 127.5)), net.weight(6, name="shift"))
    h = net.op("Mul", net.op("Sub", h, net.weight(6, name="mean")), net.weight(6, name="scale"))
    return net.model(net.linear(net.op("Relu", net.linear(h, 6, 8, "w")), 8, 3, "head"))


def test_numbers_that_prepare_an_input_are_not_filled() -> None:
    model = prepared(first=True)
    graph = build_graph(model)
    assert {parameter.name for parameter in graph.parameters} == {"w", "head"}
    assert {parameter.name for parameter in graph.uncertain} >= {"shift", "scale"}
    stored = stored_tensors(onnx_ghn.predict(model, policy="all").model)
    for tensor in model.graph.initializer:
        if tensor.name in ("shift", "mean", "scale"):
            np.testing.assert_array_equal(stored[tensor.name].numpy(), numpy_helper.to_array(tensor))


def test_the_same_numbers_behind_a_layer_are_its_own() -> None:
    rows = {parameter.name: parameter.role for parameter in build_graph(prepared(first=False)).parameters}
    assert {rows["shift"], rows["scale"]} == {Role.bias, Role.norm_scale}
