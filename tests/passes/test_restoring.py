"""Tools merge, rename and join files of ours: what the export noted is put back, or its loss is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.compose
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from onnx_ir.passes import common
from torch import nn

import onnx_ghn
from onnx_ghn.errors import CheckpointError, ModelReadError
from onnx_ghn.exporters import pytorch
from onnx_ghn.finetuning.rewriting import rewrite_for_training
from onnx_ghn.inspection import inspect_model
from onnx_ghn.passes import open_model

IMAGE = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def norms() -> nn.Module:
    """Fresh norms: equal scales, shifts, means and variances."""
    layers = [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)]
    nn.init.zeros_(layers[3].bias)
    return nn.Sequential(*layers)


def copies() -> nn.Module:
    """Three equal layers, as torch's TransformerEncoder makes them."""
    layer = nn.Conv2d(3, 3, 3, padding=1)
    net = nn.Sequential(layer, nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1))
    for other in (net[2], net[4]):
        other.load_state_dict(layer.state_dict())
    return net


def frozen() -> nn.Module:
    """A frozen layer whose bias equals that of a trained one."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3).requires_grad_(False), nn.ReLU(), nn.Conv2d(8, 8, 3))
    nn.init.zeros_(net[0].bias)
    nn.init.zeros_(net[2].bias)
    return net


NETS = {"norms": norms, "copies": copies, "frozen": frozen}


def exported(kind: str, path: Path) -> nn.Module:
    torch.manual_seed(0)
    net = NETS[kind]().eval()
    pytorch.export(net, path, IMAGE)
    return net


def merged(path: Path) -> onnx.ModelProto:
    model = ir.load(path)
    common.DeduplicateHashedInitializersPass()(model)
    return ir.to_proto(model)


@pytest.mark.parametrize("kind", NETS)
def test_what_a_tool_merged_is_several_tensors_again(kind: str, tmp_path: Path) -> None:
    net = exported(kind, tmp_path / "m.onnx")
    whole, joined = onnx.load(tmp_path / "m.onnx"), merged(tmp_path / "m.onnx")
    assert len(joined.graph.initializer) < len(whole.graph.initializer)
    state = {name: values.numpy() for name, values in net.state_dict().items() if values.is_floating_point()}
    opened = open_model(joined)
    assert {name: stored.shape for name, stored in opened.stored.items()} == {n: v.shape for n, v in state.items()}
    for name, values in state.items():
        np.testing.assert_array_equal(opened.stored[name].numpy(), values)
    before, after = onnx_ghn.predict(whole, policy="all"), onnx_ghn.predict(joined, tmp_path / "o.onnx", policy="all")
    assert {e.parameter.name: e.outcome for e in after.coverage.entries} == {
        e.parameter.name: e.outcome for e in before.coverage.entries
    }
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])
    assert pytorch.load(net, tmp_path / "o.onnx").complete
    for name, values in before.items():
        np.testing.assert_array_equal(net.state_dict()[name].numpy(), values)


@pytest.mark.parametrize("kind", NETS)
def test_new_names_are_taken_back(kind: str, tmp_path: Path) -> None:
    """As onnxoptimizer numbers tensors; the operators' outputs keep their names."""
    net = exported(kind, tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    names = {tensor.name: f"_v_{i}" for i, tensor in enumerate(proto.graph.initializer)}
    for tensor in proto.graph.initializer:
        tensor.name = names[tensor.name]
    for node in proto.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    opened = open_model(proto)
    assert set(opened.stored) == set(names)
    outcomes = {e.parameter.name: e.outcome for e in onnx_ghn.predict(proto, policy="all").coverage.entries}
    if kind == "frozen":
        assert outcomes["0.weight"] == outcomes["0.bias"] == "frozen"
    onnx.save(proto, tmp_path / "r.onnx")
    for parameter in net.parameters():
        nn.init.ones_(parameter.data)
    pytorch.load(net, tmp_path / "r.onnx")
    for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer:
        np.testing.assert_array_equal(net.state_dict()[tensor.name].numpy(), numpy_helper.to_array(tensor))


@pytest.mark.parametrize("work", [onnx_ghn.predict, inspect_model, lambda path: rewrite_for_training(str(path))])
def test_a_frozen_tensor_that_is_lost_stops_the_work(work: Callable[[Path], object], tmp_path: Path) -> None:
    """The layer's weight was turned and renamed, as constant folding does it."""
    net = nn.Sequential(nn.Linear(4, 4).requires_grad_(False), nn.ReLU(), nn.Linear(4, 2))
    pytorch.export(net, tmp_path / "m.onnx", torch.rand(1, 2, 4))
    proto = onnx.load(tmp_path / "m.onnx")
    transpose = next(node for node in proto.graph.node if node.op_type == "Transpose" and node.input[0] == "0.weight")
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == "0.weight")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).T.copy(), "folded"))
    for node in proto.graph.node:
        node.input[:] = ["folded" if name == transpose.output[0] else name for name in node.input]
    proto.graph.node.remove(transpose)
    onnx.save(proto, tmp_path / "folded.onnx")
    with pytest.raises(ModelReadError, match=r"'0\.weight', which the export noted as frozen, is gone, and 'folded'"):
        work(tmp_path / "folded.onnx")


@pytest.mark.parametrize("kinds", [("norms", "copies"), ("copies", "frozen"), ("frozen", "frozen")])
def test_two_files_joined_by_onnx_compose(kinds: tuple[str, str], tmp_path: Path) -> None:
    """Beside each other, with prefixes before all names; the notes of both hold, and `load` finds its own model."""
    nets = [exported(kind, tmp_path / f"{i}.onnx") for i, kind in enumerate(kinds)]
    protos = [onnx.compose.add_prefix(onnx.load(tmp_path / f"{i}.onnx"), f"part{i}/") for i in range(2)]
    joined = onnx.compose.merge_models(*protos, io_map=[])
    onnx.checker.check_model(joined, full_check=True)
    prediction = onnx_ghn.predict(joined, tmp_path / "o.onnx", policy="all")
    outcomes = {e.parameter.name: e.outcome for e in prediction.coverage.entries}
    for i, kind in enumerate(kinds):
        if kind == "frozen":
            assert outcomes[f"part{i}/0.weight"] == "frozen"
            assert outcomes[f"part{i}/2.weight"] == "predicted"
    report = pytorch.load(nets[0], tmp_path / "o.onnx")
    assert report.complete
    assert bool(report.notes) == (kinds[0] == kinds[1])
    written = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "o.onnx").graph.initializer}
    for name, values in nets[0].named_parameters():
        np.testing.assert_array_equal(values.detach().numpy(), written[f"part0/{name}"])
    if kinds[0] != kinds[1]:
        with pytest.raises(CheckpointError, match="joins 2 exports"):
            pytorch.load(nn.Linear(3, 3), tmp_path / "o.onnx")


def test_a_part_that_was_cut_off_is_no_loss(tmp_path: Path) -> None:
    exported("frozen", tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    del proto.graph.node[1:]
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info(proto.graph.node[0].output[0], 1, [1, 8, 10, 10]))
    kept = [tensor for tensor in proto.graph.initializer if tensor.name.startswith("0.")]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    assert {e.outcome for e in inspect_model(proto, policy="all").coverage.entries} == {"frozen"}


class Recurrent(nn.Module):
    """An embedding, an LSTM, which starts from zeros that torch writes as a constant, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 4)
        self.rnn = nn.LSTM(4, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, 3)."""
        return self.head(self.rnn(self.words(tokens))[0])


class Tied(nn.Module):
    """A table of words that is the head, too, with a layer between; one of the two is frozen."""

    def __init__(self, frozen: str) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 4)
        self.layer = nn.Linear(4, 4)
        getattr(self, frozen).requires_grad_(False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, 20)."""
        return nn.functional.linear(self.layer(self.words(tokens)), self.words.weight)


TOKENS = torch.arange(6).reshape(2, 3)


def folded(net: nn.Module, folder: Path, level: str = "ORT_ENABLE_BASIC") -> onnx.ModelProto:
    """An export of a network, whose constants onnxruntime has folded."""
    pytorch.export(net.eval(), folder / "m.onnx", TOKENS)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(folder / "folded.onnx")
    onnxruntime.InferenceSession(folder / "m.onnx", options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "folded.onnx")


@pytest.mark.parametrize("drops_state", [False, True])
def test_a_state_that_a_tool_folded_stops_nothing(drops_state: bool, tmp_path: Path) -> None:
    """Folding makes a new constant of the zeros; a simplifier leaves them out, as an LSTM starts from zeros anyway."""
    torch.manual_seed(0)
    proto = folded(Recurrent(), tmp_path)
    layer = next(node for node in proto.graph.node if node.op_type == "LSTM")
    state = layer.input[5]
    if drops_state:
        del layer.input[5:]
        kept = [tensor for tensor in proto.graph.initializer if tensor.name != state]
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(kept)
    prediction = onnx_ghn.predict(proto, tmp_path / "o.onnx", policy="all")
    outcomes = {e.parameter.name: e.outcome for e in prediction.coverage.entries}
    assert [outcomes[name] for name in layer.input[1:4]] == ["predicted"] * 3
    assert outcomes["words.weight"] == outcomes["head.bias"] == "predicted"
    if not drops_state:
        assert outcomes[state] == "frozen"
        written = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "o.onnx").graph.initializer}
        assert written[state].size
        assert not written[state].any()


@pytest.mark.parametrize("frozen", ["words", "layer"])
def test_what_a_tool_made_of_frozen_tensors_is_frozen(frozen: str, tmp_path: Path) -> None:
    """Turned matrices have the names of what turned them; the frozen table is then stored twice."""
    torch.manual_seed(0)
    proto = folded(Tied(frozen), tmp_path)
    before = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    turned = {"words": next(name for name, values in before.items() if values.shape == (4, 20))}
    turned["layer"] = next(name for name, values in before.items() if values.shape == (4, 4))
    prediction = onnx_ghn.predict(proto, tmp_path / "o.onnx", policy="all")
    outcomes = {e.parameter.name: e.outcome for e in prediction.coverage.entries}
    after = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "o.onnx").graph.initializer}
    for part, name in turned.items():
        assert (outcomes[name] == "frozen") == (part == frozen)
        assert np.array_equal(before[name], after[name]) == (part == frozen)
    assert outcomes["words.weight"] == ("frozen" if frozen == "words" else "predicted")


class Filtered(nn.Module):
    """A constant of the code, which is no parameter and no buffer, between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.filters = torch.rand(6, 6, generator=torch.Generator().manual_seed(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, 6) -> (B, T, 6)."""
        return self.second(self.first(x) @ self.filters)


@pytest.mark.parametrize("reader", ["kept", "renamed"])
def test_a_constant_that_may_be_another_tensor_now_stops_the_work(reader: str, tmp_path: Path) -> None:
    net = Filtered()
    pytorch.export(net, tmp_path / "m.onnx", torch.rand(2, 3, 6))
    proto = onnx.load(tmp_path / "m.onnx")
    constant = next(
        node
        for node in proto.graph.node
        if node.op_type == "Constant" and node.attribute[0].t.dims == [6, 6] and node.output
    )
    name = constant.output[0]
    proto.graph.initializer.append(numpy_helper.from_array(net.filters.numpy()[None], "folded"))
    proto.graph.node.remove(constant)
    node = next(node for node in proto.graph.node if name in node.input)
    node.input[:] = ["folded" if given == name else given for given in node.input]
    if reader == "renamed":
        old, node.output[0] = node.output[0], "fused"
        for other in proto.graph.node:
            other.input[:] = ["fused" if given == old else given for given in other.input]
    with pytest.raises(ModelReadError, match=r"which the export noted as frozen, is gone, and 'folded' is new"):
        onnx_ghn.predict(proto, policy="all")
