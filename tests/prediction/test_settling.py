"""Outputs of a sensible scale: measured here by onnxruntime on the written files."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from predict_models import Net, arrays, export, tiny_ghn
from torch import nn

from onnx_ghn import predict, strip
from onnx_ghn.ghn import GHN, GHNConfig, new_ghn
from onnx_ghn.graph import build_graph
from onnx_ghn.onnx_io import inject, read_model, stored_tensors
from onnx_ghn.passes import open_model
from onnx_ghn.passes.output_scales import CorrectScales
from onnx_ghn.prediction import settling
from onnx_ghn.prediction.fallback import standard_distribution, standard_init
from onnx_ghn.prediction.propagation import Propagation
from onnx_ghn.prediction.trials import Trial, Trials
from onnx_ghn.runtime import open_session

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"


def loud_ghn() -> GHN:
    """A GHN whose weights are far too large: 2-D ones about a hundred times Kaiming's."""
    ghn = new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(8, 8, 3, 3), num_classes=10), seed=0)
    with torch.no_grad():
        for parameter in ghn.decoder.parameters():
            parameter.mul_(3)
    return ghn


def scale(path: Path, x: np.ndarray) -> float:
    """Root mean square of the first output."""
    session = open_session(path)
    (y, *_) = session.run(None, {session.get_inputs()[0].name: x})
    return float(np.sqrt(np.mean(np.square(y.astype(np.float64)))))


def exported(net: nn.Module, x: torch.Tensor, path: Path) -> onnx.ModelProto:
    """As training needs it: no batch norm folded into a convolution."""
    return export(net, (x,), path, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.b(torch.relu(self.a(x)))


def dense() -> nn.Module:
    return nn.Sequential(*[part for _ in range(12) for part in (nn.Linear(16, 16), nn.ReLU())], nn.Linear(16, 4))


def residual() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *[Residual(16) for _ in range(6)], nn.Conv2d(16, 3, 1))


def depthwise() -> nn.Module:
    blocks = [
        part for _ in range(6) for part in (nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(), nn.Conv2d(16, 16, 1))
    ]
    return nn.Sequential(nn.Conv2d(3, 16, 3), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


def decoder() -> nn.Module:
    blocks = [part for _ in range(4) for part in (nn.ConvTranspose2d(8, 8, 2, 2), nn.ReLU())]
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *blocks, nn.Conv2d(8, 1, 1))


def shared() -> nn.Module:
    layer = nn.Linear(16, 16)
    return nn.Sequential(nn.Linear(16, 16), *[part for _ in range(6) for part in (layer, nn.ReLU())], nn.Linear(16, 4))


def partly_normalised() -> nn.Module:
    """A backbone with norms, a tower without."""
    tower = [part for _ in range(5) for part in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())]
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), *tower, nn.Conv2d(16, 4, 1))


class Pyramid(nn.Module):
    """One head with biases for two levels, begun small as a detector's is."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.head = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 3, padding=1))
        for i in (0, 2):
            nn.init.normal_(self.head[i].weight, std=0.01)
            nn.init.zeros_(self.head[i].bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return torch.cat([self.head(x).flatten(1), self.head(nn.functional.max_pool2d(x, 2)).flatten(1)], 1)


@pytest.mark.parametrize("make", [dense, residual, depthwise, decoder, shared, partly_normalised, Pyramid])
def test_outputs_come_to_the_scale_of_the_files_own(make: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = make().eval()
    x = torch.randn(2, 16) if make in (dense, shared) else torch.randn(2, 3, 16, 16)
    proto = exported(net, x, tmp_path / "own.onnx")
    raw = predict(proto, tmp_path / "raw.onnx", ghn=loud_ghn(), correct_scales=False)
    prediction = predict(proto, tmp_path / "new.onnx", ghn=loud_ghn())
    own, loud, new = (scale(tmp_path / f"{name}.onnx", x.numpy()) for name in ("own", "raw", "new"))
    assert loud > 100 * own  # what it is about
    assert 0.1 < new / own < 10
    (note,) = [note for note in prediction.coverage.notes if "scaled" in note]
    n_scaled = 0
    for name, array in raw.items():  # one number a tensor, and none for most biases
        ratio = prediction[name] / np.where(array == 0, 1, array)
        ratio = ratio[array != 0]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
        n_scaled += not np.isclose(ratio[0], 1, rtol=1e-5)
    assert note.startswith(f"{n_scaled} tensors are scaled")


@pytest.mark.parametrize(
    "squash", [nn.Softmax(-1), nn.LogSoftmax(-1), nn.Sigmoid()], ids=lambda each: type(each).__name__
)
def test_the_scale_of_logits_shows_through_probabilities(squash: nn.Module, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(16, 4)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)
    x = torch.randn(8, 16)
    proto = exported(nn.Sequential(layer, squash).eval(), x, tmp_path / "own.onnx")
    own = float(layer(x).detach().square().mean().sqrt())
    raw, new = (predict(proto, ghn=tiny_ghn(), correct_scales=correct) for correct in (False, True))
    before, after = (float(np.sqrt(np.mean(np.square(x.numpy() @ p["0.weight"].T + p["0.bias"])))) for p in (raw, new))
    assert before > 20 * own  # what it is about
    assert 0.1 < after / own < 10


def test_what_a_norm_follows_is_left_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    proto = exported(partly_normalised().eval(), torch.randn(2, 3, 16, 16), tmp_path / "own.onnx")
    raw, new = (predict(proto, ghn=loud_ghn(), correct_scales=correct) for correct in (False, True))
    np.testing.assert_array_equal(raw["0.weight"], new["0.weight"])
    assert not np.array_equal(raw["3.weight"], new["3.weight"])


def test_a_stripped_file_is_compared_with_the_standard_initialisation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = residual().eval()
    exported(net, torch.randn(2, 3, 16, 16), tmp_path / "own.onnx")
    strip(tmp_path / "own.onnx", tmp_path / "stripped.onnx")
    predict(tmp_path / "stripped.onnx", tmp_path / "new.onnx", ghn=loud_ghn())
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        for parameter in net.parameters():
            nn.init.kaiming_normal_(parameter) if parameter.dim() > 1 else nn.init.zeros_(parameter)
        standard = float(net(x).square().mean().sqrt())
    assert 0.1 < scale(tmp_path / "new.onnx", x.numpy()) / standard < 10


def test_large_outputs_are_told_where_nothing_is_left_to_compare_with(tmp_path: Path) -> None:
    """Small scales of branches were folded into their weights: without these, standard weights grow as others do."""
    torch.manual_seed(0)
    blocks = [Residual(8) for _ in range(16)]
    for block in blocks:
        nn.init.normal_(block.b.weight, 0, 1e-3)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *blocks, nn.Conv2d(8, 3, 1)).eval()
    own, bare, new = (tmp_path / f"{name}.onnx" for name in ("own", "bare", "new"))
    x = torch.randn(2, 3, 16, 16)
    proto = exported(net, x, own)
    strip(own, bare)
    notes = predict(bare, new, ghn=loud_ghn()).coverage.notes
    (note,) = (note for note in notes if "does not tell that of its author" in note)
    told = float(note.split(" scale of ")[1].split()[0])
    assert 0.1 < scale(new, x.numpy()) / told < 10
    assert told > 500 * scale(own, x.numpy())
    assert not any("of its author" in note for note in predict(proto, ghn=loud_ghn()).coverage.notes)


def test_a_row_of_zeros_makes_no_row_of_giants(tmp_path: Path) -> None:
    net = Net()
    net.input("N", 6, kind=onnx.TensorProto.INT64, name="types")
    net.input("N", 6, 16)
    kinds = net.op("Gather", net.random("table", 4, 16), "types", out="kinds")
    for i in range(8):
        h = net.op("MatMul", "x" if i == 0 else f"s{i - 1}", net.random(f"w{i}", 16, 16), out=f"h{i}")
        net.op("Add", h, kinds, out=f"s{i}")
    proto = net.model("s7")
    for tensor in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor) * np.float32(1e-3)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    scale_of = CorrectScales({0: 0.02, **dict.fromkeys(range(1, 9), 1e-3)}, [t.name for t in proto.graph.initializer])
    table = next(tensor for tensor in proto.graph.initializer if tensor.name == "table")
    rows = np.zeros_like(onnx.numpy_helper.to_array(table))  # whichever of them noise asks for
    table.CopyFrom(onnx.numpy_helper.from_array(rows, "table"))
    factors = Trials("noise", 0, 8).run(ir.from_proto(proto), scale_of).factors
    assert factors["table"] == 1
    assert all(1e-9 < factor < 1e9 for factor in factors.values())


def test_where_outputs_are_near_nothing_is_changed() -> None:
    net = Net()
    net.input("N", 3, 8, 8)
    net.op("GlobalAveragePool", net.conv("x", 3, 8, "c"), out="y")
    proto = net.model("y")
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "c.w")
    predicted = predict(proto, ghn=tiny_ghn(), correct_scales=False)["c.w"]
    weight.CopyFrom(onnx.numpy_helper.from_array((predicted * 3)[::-1].copy(), "c.w"))
    prediction = predict(proto, ghn=tiny_ghn())
    assert prediction.coverage.notes == []
    np.testing.assert_array_equal(prediction["c.w"], predicted)
    assert not np.array_equal(arrays(proto)["c.w"], predicted)


def test_a_model_that_cannot_be_run_is_predicted_all_the_same() -> None:
    net = Net()
    net.input("N", 8)
    net.op("Mystery", net.op("MatMul", "x", net.random("w", 8, 8), out="h"), out="y", domain="acme")
    prediction = predict(net.model("y", shape=["N", 8]), ghn=tiny_ghn())
    assert set(prediction) == {"w"}
    (note,) = prediction.coverage.notes
    assert note.startswith("the scale of the outputs is not checked")


def test_a_stripped_model_that_cannot_be_run_is_predicted_all_the_same(tmp_path: Path) -> None:
    net = Net()
    net.input("N", 8)
    net.op("Mystery", net.op("MatMul", "x", net.random("w", 8, 8), out="h"), out="y", domain="acme")
    onnx.save(net.model("y", shape=["N", 8]), tmp_path / "own.onnx")
    strip(tmp_path / "own.onnx", tmp_path / "stripped.onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "stripped.onnx").graph.node][:2] == [
        "Constant",
        "ConstantOfShape",
    ]
    prediction = predict(tmp_path / "stripped.onnx", tmp_path / "new.onnx", ghn=tiny_ghn())
    np.testing.assert_array_equal(arrays(onnx.load(tmp_path / "new.onnx"))["w"], prediction["w"])


@pytest.mark.parametrize("make", [dense, residual, depthwise])
def test_half_precision_is_run_and_comes_to_its_own_scale(make: type[nn.Module], tmp_path: Path) -> None:
    """float16 overflows at 65,504: predicted as they come, these outputs are infinite."""
    torch.manual_seed(0)
    net = make().eval()
    size = (4, 16) if make is dense else (4, 3, 12, 12)
    x = torch.randn(*size)
    proto = exported(net.half(), x.half(), tmp_path / "own.onnx")
    fed = x.half().numpy()
    own = scale(tmp_path / "own.onnx", fed)
    prediction = predict(proto, tmp_path / "good.onnx", ghn=loud_ghn())
    assert own / 5 < scale(tmp_path / "good.onnx", fed) < 5 * own
    written = arrays(onnx.load(tmp_path / "good.onnx"))
    assert {array.dtype for name, array in written.items() if "weight" in name} == {np.dtype(np.float16)}
    assert any("are scaled, by" in note and "estimated" not in note for note in prediction.coverage.notes)
    predict(proto, tmp_path / "raw.onnx", ghn=loud_ghn(), correct_scales=False)
    assert not scale(tmp_path / "raw.onnx", fed) < 100 * own


def bfloat16_file(path: Path) -> onnx.ModelProto:
    """Twelve MatMuls and Relus of bfloat16, which onnxruntime's CPU does not run."""
    generator = np.random.default_rng(0)
    nodes, tensors, x = [], [], "x"
    for i in range(12):
        weight = (generator.standard_normal((16, 16)) / 4).astype(ml_dtypes.bfloat16)
        tensors.append(ir.serde.serialize_tensor(ir.Tensor(weight, name=f"w{i}")))
        nodes.append(onnx.helper.make_node("MatMul", [x, f"w{i}"], [f"h{i}"]))
        nodes.append(onnx.helper.make_node("Relu", [f"h{i}"], [x := f"r{i}" if i < 11 else "y"]))
    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.BFLOAT16, [4, 16]) for name in ("x", "y")]
    graph = onnx.helper.make_graph(nodes, "g", info[:1], info[1:], tensors)
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(proto, path)
    return proto


def test_bfloat16_is_estimated_and_comes_to_its_own_scale(tmp_path: Path) -> None:
    proto = bfloat16_file(tmp_path / "own.onnx")
    prediction = predict(proto, tmp_path / "good.onnx", ghn=loud_ghn())
    assert any("(estimated: nothing was run)" in note for note in prediction.coverage.notes)
    x = np.random.default_rng(1).standard_normal((4, 16))

    scales = []
    for name in ("own", "good"):
        stored = stored_tensors(read_model(tmp_path / f"{name}.onnx"))
        assert stored["w0"].dtype == ir.DataType.BFLOAT16
        hidden = x
        for i in range(12):
            hidden = np.maximum(hidden @ stored[f"w{i}"].numpy().astype(np.float64), 0)
        scales.append(float(np.sqrt(np.mean(np.square(hidden)))))
    assert scales[0] / 10 < scales[1] < 10 * scales[0]


@pytest.mark.parametrize("name", ["resnet18_cifar10", "audio_m5", "bert_like", "convnet_flax"])
@pytest.mark.parametrize("policy", ["auto", "all"])
def test_a_run_with_standard_weights_is_spared_only_where_it_would_change_nothing(
    name: str, policy: Literal["auto", "all"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files without weights are compared with standard ones: run all the same here, to see what the run tells."""
    spared: list[bool] = []
    was = settling._is_foreseen

    def recorded(model: ir.Model, trial: Trial, reference: settling._Reference) -> bool:
        spared.append(was(model, trial, reference))
        assert not (spared[-1] and settling._target(reference, trial) is not None)
        return spared[-1]

    monkeypatch.setattr(settling, "_is_foreseen", recorded)
    predict(EXAMPLES / f"{name}.onnx", policy=policy)
    assert len(spared) == 1
    if policy == "auto" and name != "convnet_flax":
        assert spared == [True]


def test_of_a_file_without_weights_one_run_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    was = Trials.run

    def counted(self: Trials, model: ir.Model, correct: CorrectScales | None = None) -> Trial:
        runs.append(1)
        return was(self, model, correct)

    monkeypatch.setattr(Trials, "run", counted)
    predict(EXAMPLES / "resnet18_cifar10.onnx")
    assert len(runs) == 1


def test_what_is_drawn_has_the_scale_that_it_has_when_drawn() -> None:
    """Kaiming's weights in a ResNet, by their distribution and by their values."""
    opened = open_model(EXAMPLES / "resnet18_cifar10.onnx")
    graph = build_graph(EXAMPLES / "resnet18_cifar10.onnx")
    drawn, makers = {}, {}
    for parameter in graph.parameters:
        distribution = standard_distribution(parameter)
        if distribution is not None:
            drawn[parameter.name] = distribution
            makers[parameter.name] = functools.partial(standard_init, parameter, 0)
    inject(opened.model, makers)
    by_values, by_distribution = Propagation().run(opened.model), Propagation(drawn).run(opened.model)
    assert by_distribution.operators.keys() == by_values.operators.keys()
    for number, scale_ in by_values.operators.items():
        assert by_distribution.operators[number] == pytest.approx(scale_, rel=0.1)
