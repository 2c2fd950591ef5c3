"""Tools merge, rename and join files of ours: what the export noted is put back, or its loss is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.compose
import onnx_ir as ir
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
