"""Tensors that an exporter merged because they were equal are told apart; what is tied on purpose stays so."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from predict_models import Net, arrays, export, random_feed, run, session, signature, tiny_ghn
from torch import nn

from onnx_ghn import build_graph, predict
from onnx_ghn.graph import Role
from onnx_ghn.inspection import inspect_model
from onnx_ghn.onnx_io import read_model, write_model
from onnx_ghn.passes import UntieMergedTensors
from onnx_ghn.torch_export import module_to_file


def untied(proto: onnx.ModelProto, folder: Path) -> tuple[onnx.ModelProto, list[str]]:
    model = read_model(proto)
    new = list(UntieMergedTensors()(model).changes)
    write_model(model, folder / "untied.onnx")
    onnx.checker.check_model(folder / "untied.onnx", full_check=True)
    return onnx.load(folder / "untied.onnx"), new


class Fresh(nn.Module):
    """As torch initialises it: every batch norm's scale is one vector of ones, every running mean one of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.bn3 = nn.BatchNorm2d(8)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.bn3(torch.relu(self.bn2(self.conv2(x))))
        return self.fc(self.norm(x.mean((2, 3))))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, onnx.ModelProto]:
    torch.manual_seed(0)
    net = Fresh()
    nn.init.zeros_(net.fc.bias)
    return net, export(net, (torch.randn(2, 3, 9, 9),), tmp_path_factory.mktemp("fresh") / "fresh.onnx")


def test_a_fresh_torch_network_has_its_parameters_back(
    fresh: tuple[nn.Module, onnx.ModelProto], tmp_path: Path
) -> None:
    net, proto = fresh
    assert any(node.op_type == "Identity" for node in proto.graph.node)  # torch did merge
    expected = {n: p.numel() for n, p in net.named_parameters()}
    graph = build_graph(proto)
    assert {p.name: p.size for p in graph.parameters if p.role is not Role.statistic} == expected
    statistics = {n for n, _ in net.named_buffers() if "running" in n}
    assert {p.name for p in graph.parameters if p.role is Role.statistic} == statistics
    written, new = untied(proto, tmp_path)
    assert len(new) == len(set(new)) > 0
    assert expected.keys() | statistics <= arrays(written).keys()


def test_layers_that_were_merged_get_different_predictions(
    fresh: tuple[nn.Module, onnx.ModelProto], tmp_path: Path
) -> None:
    net, proto = fresh
    prediction = predict(proto, tmp_path / "out.onnx", ghn=tiny_ghn())
    for what in ("weight", "bias"):
        for one, other in (("bn1", "bn2"), ("bn2", "bn3"), ("bn3", "norm")):
            assert not np.array_equal(prediction[f"{one}.{what}"], prediction[f"{other}.{what}"])
    stored = arrays(onnx.load(tmp_path / "out.onnx"))
    assert not np.array_equal(stored["bn1.running_mean"], stored["bn2.running_mean"])
    state = {n: torch.from_numpy(stored[n]) for n in net.state_dict() if n in stored}
    other = Fresh()
    assert not other.load_state_dict(state, strict=False).unexpected_keys
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        expected = other.eval()(x).numpy()
    name = session(tmp_path / "out.onnx").get_inputs()[0].name
    np.testing.assert_allclose(run(tmp_path / "out.onnx", {name: x.numpy()})[0], expected, rtol=1e-3, atol=1e-4)


def test_the_untied_model_computes_the_same(fresh: tuple[nn.Module, onnx.ModelProto], tmp_path: Path) -> None:
    _, proto = fresh
    before = proto.SerializeToString()
    written, _ = untied(proto, tmp_path)
    assert proto.SerializeToString() == before
    assert signature(written)["operators"] == signature(proto)["operators"]
    feed = random_feed(session(proto))
    np.testing.assert_array_equal(run(written, feed)[0], run(proto, feed)[0])
    assert untied(written, tmp_path / "..")[1] == []  # once is enough


def merged_by_value(
    opset: int = 13, ir_version: int = 8, roles: bool = True, one_layer: bool = False
) -> onnx.ModelProto:
    """As tf2onnx writes it: one tensor of ones for scales and variances, one of zeros for shifts and means.

    Args:
        roles: else only scales are merged, and only shifts.
        one_layer: the convolution is one layer, used twice.
    """
    net = Net(opset, ir_version=ir_version)
    one, zero = net.tensor("one", np.ones(6)), net.tensor("zero", np.zeros(6))
    x = net.input("N", 6, 5, 5)
    for i in range(2):
        again = one_layer and i
        x = net.op("Conv", x, "c0.w", out="c1.y", pads=[1] * 4) if again else net.conv(x, 6, 6, f"c{i}")
        mean, variance = (zero, one) if roles else (net.random(f"m{i}", 6), net.tensor(f"v{i}", np.arange(1, 7)))
        x = net.op("BatchNormalization", x, one, zero, mean, variance, out=f"bn{i}")
    return net.model(x, shape=("N", 6, 5, 5))


def test_direct_merges_across_roles(tmp_path: Path) -> None:
    proto = merged_by_value()
    written, new = untied(proto, tmp_path)
    assert len(new) == 6
    norms = [node for node in written.graph.node if node.op_type == "BatchNormalization"]
    used = [name for node in norms for name in node.input[1:]]
    assert len(set(used)) == 8
    feed = random_feed(session(proto))
    np.testing.assert_array_equal(run(written, feed)[0], run(proto, feed)[0])
    graph = build_graph(proto)
    assert sum(p.role is Role.statistic for p in graph.parameters) == 4
    assert {p.role for p in graph.parameters if p.size == 6} == {Role.norm_scale, Role.norm_bias, Role.statistic}
    prediction = predict(proto, ghn=tiny_ghn())
    scales = [prediction[p.name] for p in prediction.graph.parameters if p.role is Role.norm_scale]
    assert len(scales) == 2
    assert not np.array_equal(*scales)


def test_a_layer_used_twice_stays_one(tmp_path: Path) -> None:
    """Nothing says that these were merged: the same place of the same operator, behind one convolution."""
    written, new = untied(merged_by_value(roles=False, one_layer=True), tmp_path)
    assert new == []
    assert [n.input[1] for n in written.graph.node if n.op_type == "BatchNormalization"] == ["one", "one"]


def test_equal_norms_behind_layers_of_their_own_were_merged(tmp_path: Path) -> None:
    written, new = untied(merged_by_value(roles=False), tmp_path)
    assert new == ["bn1_scale", "bn1_bias"]
    assert [n.input[1] for n in written.graph.node if n.op_type == "BatchNormalization"] == ["one", "bn1_scale"]


def test_before_ir_version_4_nothing_changes(tmp_path: Path) -> None:
    proto = merged_by_value(opset=8, ir_version=3)
    proto.graph.input.extend(
        helper.make_tensor_value_info(t.name, TensorProto.FLOAT, t.dims) for t in proto.graph.initializer
    )
    written, new = untied(proto, tmp_path)
    assert new == []
    assert signature(written) == signature(proto)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(11, 8)
        self.one = nn.Linear(8, 8)
        self.two = nn.Linear(8, 8)
        self.two.weight = self.one.weight
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.emb.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.two(torch.relu(self.one(self.emb(x)))))


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_matrices_tied_on_purpose_stay_tied(dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Tied()
    proto = export(net, (torch.randint(0, 11, (2, 5)),), tmp_path / "in.onnx", dynamo=dynamo)
    assert untied(proto, tmp_path)[1] == []
    graph = build_graph(proto)
    assert sum(p.size for p in graph.parameters) == sum(p.numel() for p in net.parameters())


def test_outputs_and_inputs_keep_their_names(tmp_path: Path) -> None:
    """An Identity that is an output of the model, or whose tensor is one, is left alone."""
    net = Net()
    net.input("N", 6)
    ones = net.tensor("ones", np.ones(6))
    net.op("Identity", ones, out="echo")
    net.op("Identity", ones, out="layer.scale")
    net.op("Mul", "x", "layer.scale", out="h")
    net.op("Mul", "h", ones, out="y")
    proto = net.model("y", "echo", "ones", shape=(None,))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", 6)))
    written, new = untied(proto, tmp_path)
    assert new == ["layer.scale"]
    assert [v.name for v in written.graph.output] == ["y", "echo", "ones"]
    assert signature(written)["outputs"] == signature(proto)["outputs"]
    feed = random_feed(session(proto))
    for one, other in zip(run(written, feed), run(proto, feed), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("change", ["matrix", "differing", "integer", "scalar"])
def test_what_is_no_merged_vector_stays(change: str, tmp_path: Path) -> None:
    values: Any = {
        "matrix": np.ones((6, 6)), "differing": np.arange(6.0), "integer": np.ones(6), "scalar": np.ones(1),
    }[change]  # fmt: skip
    net = Net()
    kind = np.int64 if change == "integer" else np.float32
    net.input(6, 6, kind=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
    t = net.tensor("t", values, kind)
    for name in ("a.w", "b.w"):
        net.op("Identity", t, out=name)
    net.op("Add", net.op("Add", "x", "a.w", out="h"), "b.w", out="y")
    assert untied(net.model("y", kind=helper.np_dtype_to_tensor_dtype(np.dtype(kind))), tmp_path)[1] == []


def test_names_that_are_taken_are_not_taken_twice(tmp_path: Path) -> None:
    net = Net()
    net.input("N", 6)
    t = net.tensor("t", np.ones(6))
    for name in ("a.w", "b.w"):
        net.op("Identity", t, out=name)
    net.op("Mul", "x", "a.w", out="a.w_identity")
    net.op("Mul", "a.w_identity", "b.w", out="y")
    proto = net.model("y")
    written, new = untied(proto, tmp_path)
    names = [name for node in written.graph.node for name in node.output] + [t.name for t in written.graph.initializer]
    assert len(names) == len(set(names))
    assert set(new) <= {"a.w", "b.w"}
    assert new
    feed = random_feed(session(proto))
    np.testing.assert_array_equal(run(written, feed)[0], run(proto, feed)[0])


class ZeroResiduals(nn.Module):
    """Branches whose last layer starts at zero: convolutions, linear layers, or adapters of low rank."""

    def __init__(self, kind: str) -> None:
        super().__init__()

        def make(zero: bool) -> nn.Module:
            layer = (
                nn.Conv2d(6, 6, 3, padding=1, bias=False) if kind == "conv" else nn.Linear(6, 6, bias=kind == "bias")
            )
            if zero:
                for parameter in layer.parameters():
                    nn.init.zeros_(parameter)
            return layer

        self.layers = nn.ModuleList([make(zero=bool(i % 2)) for i in range(6)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for first, last in zip(self.layers[::2], self.layers[1::2], strict=True):
            x = x + last(torch.relu(first(x)))
        return x


@pytest.mark.parametrize("kind", ["conv", "linear", "bias"])
def test_matrices_of_zeros_that_torch_merged_come_apart(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = ZeroResiduals(kind)
    proto = export(net, (torch.randn(2, 6, 5, 5) if kind == "conv" else torch.randn(2, 6),), tmp_path / "in.onnx")
    assert any(node.op_type == "Identity" for node in proto.graph.node)  # torch did merge
    graph = build_graph(proto)
    assert {p.name: p.size for p in graph.parameters} == {name: p.numel() for name, p in net.named_parameters()}
    prediction = predict(proto, ghn=tiny_ghn(), overwrite_special=True, calibrate="none")
    assert {name: prediction[name].shape for name, _ in net.named_parameters()} == {
        name: tuple(p.shape) for name, p in net.named_parameters()
    }
    feed = random_feed(session(proto))
    np.testing.assert_array_equal(run(untied(proto, tmp_path)[0], feed)[0], run(proto, feed)[0])


class Equal(nn.Module):
    """Parameters that are equal and not one: states in rows, copies of a layer, numbers. One matrix is shared."""

    def __init__(self) -> None:
        super().__init__()
        rows = torch.log(torch.arange(1.0, 9.0)).repeat(4, 1)
        self.first_state, self.second_state = nn.Parameter(rows.clone()), nn.Parameter(rows.clone())
        self.mixes = nn.ParameterList(torch.linspace(0, 1, 8).view(1, 8) for _ in range(3))
        self.gains = nn.ParameterList(torch.ones(8, 1, 1) for _ in range(2))
        self.scales = nn.ParameterList(torch.tensor(0.5) for _ in range(3))
        self.layer = nn.Linear(8, 8)
        self.copy = copy.deepcopy(self.layer)
        self.embedding, self.head = nn.Embedding(8, 8), nn.Linear(8, 8, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids) * self.first_state.sum(0) * self.second_state.prod(0)  # (1, 8, 8)
        for mix, scale in zip(self.mixes, self.scales, strict=True):
            x = x * mix + scale * x
        x = self.gains[0] * x + self.gains[1] * x.exp()
        return self.head(self.copy(self.layer(self.layer(x))))


@pytest.mark.parametrize("folds", [False, True])
def test_what_torch_names_apart_is_apart_whatever_it_holds(folds: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, ids = Equal().eval(), torch.arange(8)[None]
    module_to_file(net, (ids,), {}, tmp_path / "equal.onnx", "torchscript", folds=folds)
    proto = onnx.load(tmp_path / "equal.onnx")
    written, new = untied(proto, tmp_path)
    expected = {"mixes.1", "mixes.2", "gains.1", "scales.1", "scales.2", "copy.bias"}
    if not folds:  # else torch computes with these
        expected |= {"second_state", "copy.weight"}
    assert set(new) == expected
    own = dict(net.named_parameters())
    for name in new:
        np.testing.assert_array_equal(arrays(written)[name], own[name].detach().numpy())
    assert "head.weight" not in arrays(written)  # one with the embedding
    feed = {proto.graph.input[0].name: ids.numpy()}
    np.testing.assert_array_equal(run(written, feed)[0], run(proto, feed)[0])
    assert list(UntieMergedTensors()(read_model(written)).changes) == []


class Plain(nn.Module):
    """Layer norms without scale or shift, for which torch's second exporter makes one vector of ones."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(12, 12) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(torch.nn.functional.layer_norm(x, (12,))).relu()
        return x


def test_copies_of_what_the_exporter_made_are_no_parameters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Plain()
    logging.disable(logging.CRITICAL)
    program = torch.onnx.export(net.eval(), (torch.randn(2, 12),), dynamo=True, verbose=False)
    logging.disable(logging.NOTSET)
    proto = program.model_proto
    ones = [
        tensor.name for tensor in proto.graph.initializer if list(tensor.dims) == [12] and "bias" not in tensor.name
    ]
    assert len(ones) == 1
    coverage = inspect_model(proto).coverage
    assert coverage.n_trainable == sum(parameter.numel() for parameter in net.parameters())
    assert not coverage.uncertain
    predict(proto, tmp_path / "out.onnx", policy="all", calibrate="none")
    stored = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / "out.onnx").graph.initializer
    }
    assert all((array == 1).all() for name, array in stored.items() if name in ones)


@pytest.mark.parametrize("is_merged", [False, True])
def test_a_scale_stays_one_where_a_model_quantises_and_takes_it_back(is_merged: bool, tmp_path: Path) -> None:
    """Weights in floats between QuantizeLinear and DequantizeLinear (NVIDIA's modelopt), whose scales `strip` filled.

    Where tools merged these fills and another, each weight has a scale of its own again, read by both operators.
    """
    fill = numpy_helper.from_array(np.ones(1, np.float32))
    nodes = [helper.make_node("ConstantOfShape", ["size"], [f"s{i}"], value=fill) for i in "012"]
    scales = ["s0"] * 3 if is_merged else ["s0", "s1", "s2"]
    nodes.append(helper.make_node("Mul", ["x", "s0"], ["y0"]))
    for i in (1, 2):
        nodes += [
            helper.make_node("QuantizeLinear", [f"w{i}", scales[i], "zero"], [f"q{i}"], axis=1),
            helper.make_node("DequantizeLinear", [f"q{i}", scales[i], "zero"], [f"d{i}"], axis=1),
            helper.make_node("MatMul", [f"y{i - 1}", f"d{i}"], [f"y{i}"]),
        ]
    rng = np.random.default_rng(0)
    stored = [numpy_helper.from_array(rng.standard_normal((4, 4)).astype(np.float32), f"w{i}") for i in (1, 2)]
    stored += [numpy_helper.from_array(np.zeros(4, np.int8), "zero"), numpy_helper.from_array(np.int64([4]), "size")]
    info = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 4]) for name in ("x", "y2")]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], stored)
    model, new = untied(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path)
    read = {node.output[0]: node.input[1] for node in model.graph.node if node.op_type != "ConstantOfShape"}
    assert [read[name] for name in ("y0", "q1", "q2")] == (["s0", *new] if is_merged else scales)
    assert (read["q1"], read["q2"]) == (read["d1"], read["d2"])
    assert len(new) == (2 if is_merged else 0)
