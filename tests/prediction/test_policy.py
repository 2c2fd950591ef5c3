"""Which tensors take the GHN's weights, and which keep their start."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from predict_models import Net, tiny_ghn
from torch import nn

import onnx_ghn
from onnx_ghn import predict
from onnx_ghn.cli.predict import predict as command
from onnx_ghn.errors import CheckpointError
from onnx_ghn.exporters import pytorch
from onnx_ghn.ghn import save_ghn
from onnx_ghn.inspection import inspect_model
from onnx_ghn.passes import open_model
from onnx_ghn.prediction.features import ModelFeatures, TensorFeatures, model_features, tensor_features
from onnx_ghn.prediction.policy import Rule, read_policy

SPATIAL = {
    "model": {"data": ["image"]},
    "tensor": {"kind": ["conv2d"], "longest": {"least": 2}},
    "take": True,
    "why": "kernels",
}
EVERYTHING = {"model": {"data": ["image"]}, "take": True, "why": "images"}


@pytest.fixture(scope="module")
def ghn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GHN with a policy: kernels of images, or early all of them."""
    folder = save_ghn(tiny_ghn(), tmp_path_factory.mktemp("ghn"))
    (folder / "policy.json").write_text(
        json.dumps({"knows": "pictures", "rules": {"auto": [SPATIAL], "early": [EVERYTHING]}})
    )
    return folder


def fresh(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(),
        nn.Conv2d(8, 8, (1, 3), padding=(0, 1), groups=8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


def export(net: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        pytorch.export(net, f"{folder}/m.onnx", example)
        return onnx.load(f"{folder}/m.onnx")


def network() -> onnx.ModelProto:
    return export(fresh(), torch.zeros(2, 3, 16, 16))


def stripped(proto: onnx.ModelProto) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(proto, f"{folder}/m.onnx")
        return onnx.load(onnx_ghn.strip(f"{folder}/m.onnx", f"{folder}/s.onnx"))


def tensors_of(net: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in net.state_dict().items() if tensor.ndim}


def outcomes(coverage: Any) -> dict[str, str]:
    return {entry.parameter.name: entry.outcome for entry in coverage.entries}


def features_of(proto: onnx.ModelProto) -> tuple[ModelFeatures, dict[str, TensorFeatures]]:
    opened = open_model(proto)
    graph = onnx_ghn.build_graph(proto)
    names = [parameter.name for parameter in graph.parameters]
    return model_features(opened.model, graph, opened.stored), dict(zip(names, tensor_features(graph), strict=True))


KERNELS = {"0.weight", "5.weight"}


@pytest.mark.parametrize(
    ("policy", "predicted"),
    [
        ("auto", KERNELS),
        ("none", set()),
        ("all", {f"{layer}.weight" for layer in (0, 1, 3, 5, 8)} | {f"{layer}.bias" for layer in (1, 3, 5, 8)}),
    ],
)
def test_what_a_policy_leaves_keeps_its_values_to_the_bit(policy: Any, predicted: set[str], ghn: Path) -> None:
    proto = network()
    own = tensors_of(fresh())
    found = predict(proto, ghn=ghn, policy=policy)
    assert {name for name, outcome in outcomes(found.coverage).items() if outcome == "predicted"} == predicted
    assert set(found) >= {name for name in own if "running" not in name}  # a whole start
    for name, values in own.items():
        same = np.array_equal(values, found[name])
        is_statistic = "running" in name
        assert same == (name not in predicted and (policy == "none" or not is_statistic)), name


def test_early_and_all_predict_the_same_of_an_image_network(ghn: Path) -> None:
    early, everything = (predict(network(), ghn=ghn, policy=policy) for policy in ("early", "all"))
    assert outcomes(early.coverage) == outcomes(everything.coverage)
    for name in everything:
        np.testing.assert_array_equal(early[name], everything[name])


def test_a_file_without_weights_gets_a_standard_start_beside_the_prediction(ghn: Path) -> None:
    found = predict(stripped(network()), ghn=ghn)
    outcome = outcomes(found.coverage)
    assert {name for name, what in outcome.items() if what == "predicted"} == KERNELS
    assert {what for name, what in outcome.items() if name not in KERNELS} == {"fallback", "statistic"}
    assert found["3.weight"].std() == pytest.approx(np.sqrt(2 / 8), rel=0.4)
    assert (found["1.weight"] == 1).all()
    assert (found["8.bias"] == 0).all()


class Joined(nn.Module):
    """A convolution whose kernel is joined of two parts, each of which stands in it twice, as a complex one is."""

    def __init__(self) -> None:
        super().__init__()
        self.real, self.imaginary = (nn.Parameter(0.1 * torch.randn(4, 4, 3, 3)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = torch.cat([self.real, -self.imaginary], 1), torch.cat([self.imaginary, self.real], 1)
        return nn.functional.conv2d(x, torch.cat(rows))


@pytest.mark.parametrize("policy", ["auto", "early"])
def test_the_parts_of_a_kernel_that_is_joined_stay_together(policy: Any, ghn: Path) -> None:
    """The first part alone is decoded; beside it the others, which the author drew on one scale, would be another."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), Joined())
    found = predict(export(net, torch.zeros(2, 3, 12, 12)), ghn=ghn, policy=policy)
    outcome = outcomes(found.coverage)
    assert outcome["0.weight"] == "predicted"
    for name in ("3.real", "3.imaginary"):
        assert outcome[name] == "kept"
        np.testing.assert_array_equal(found[name], net.state_dict()[name].numpy())


@pytest.mark.parametrize("policy", ["auto", "early"])
def test_what_a_ghn_does_not_know_keeps_its_start(policy: Any, ghn: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(1, 8, 9), nn.ReLU(), nn.Conv1d(8, 8, 3))
    proto = export(net, torch.zeros(2, 1, 64))
    found = predict(proto, ghn=ghn, policy=policy)
    assert set(outcomes(found.coverage).values()) == {"kept"}
    assert found.coverage.sentence.startswith("this is a model of series or sound and ")
    assert "0 of 4 tensors predicted, the others keep their start" in found.coverage.sentence
    assert all(np.array_equal(values, found[name]) for name, values in tensors_of(net).items())


def test_inspection_foretells_it(ghn: Path) -> None:
    for policy in ("auto", "early", "none"):
        foretold = inspect_model(network(), ghn, policy=policy).coverage
        told = predict(network(), ghn=ghn, policy=policy).coverage
        assert outcomes(foretold) == outcomes(told)
        assert foretold.sentence == told.sentence


def test_a_name_that_is_asked_for_is_predicted_whatever_the_policy(ghn: Path) -> None:
    found = predict(network(), ghn=ghn, include="^8", policy="auto")
    assert {name for name, what in outcomes(found.coverage).items() if what == "predicted"} == {"8.weight", "8.bias"}


def test_a_ghn_without_a_policy_predicts_everything(ghn: Path) -> None:
    found = predict(network(), ghn=tiny_ghn())
    assert "kept" not in outcomes(found.coverage).values()
    assert found.coverage.sentence.endswith("comes without a policy)")


def test_a_policy_gives_nothing_standard_weights_that_hold_their_own(ghn: Path) -> None:
    """One kernel of two tensors, as of a layer that sees its input from four sides: no node decodes the second, and the
    first stays with it.
    """
    net = Net()
    net.input("N", 3, 16, 16)
    net.op("Transpose", net.random("a", 4, 3, 3, 3), out="turned", perm=[0, 1, 3, 2])
    net.op("Concat", net.random("b", 4, 3, 3, 3), "turned", out="kernel", axis=0)
    net.op("Conv", "x", "kernel", out="y")
    net.conv("y", 8, 4, "after")
    net.op("GlobalAveragePool", "after.y", out="p")
    net.op("Flatten", "p", out="z")
    proto = net.model("z")
    before = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    found = predict(proto, ghn=ghn)
    assert outcomes(found.coverage) == {"b": "kept", "a": "kept", "after.w": "predicted"}
    assert np.array_equal(found["a"], before["a"])
    assert outcomes(predict(proto, ghn=ghn, policy="all").coverage)["a"] == "fallback"


def test_trained_weights_are_kept(ghn: Path, tmp_path: Path) -> None:
    net = fresh()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for seed in range(3):
        torch.manual_seed(seed)
        net(torch.randn(8, 3, 16, 16)).square().mean().backward()
        optimizer.step()
    proto = export(net.eval(), torch.zeros(2, 3, 16, 16))
    found = predict(proto, ghn=ghn)
    assert set(outcomes(found.coverage).values()) == {"kept", "statistic"}
    assert found.coverage.sentence.startswith(
        "the file looks trained, as the scales of its norms differ: 0 of 9 tensors"
    )
    assert all(np.array_equal(values, found[name]) for name, values in tensors_of(net).items())
    onnx.save(proto, tmp_path / "m.onnx")
    told = CliRunner().invoke(command, [str(tmp_path / "m.onnx"), "-o", str(tmp_path / "o.onnx"), "--ghn", str(ghn)])
    printed = " ".join(told.stdout.split())  # a terminal wraps it
    assert "0 of 9 tensors predicted" in printed
    assert "running statistics are those of drawn inputs" not in printed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[", "unreadable policy"),
        ("[]", "no policy"),
        ('{"knows": "x", "rules": {"auto": []}}', "modes auto, early"),
        ('{"knows": "x", "rules": {"auto": {}, "early": []}}', "no list"),
        ('{"knows": "x", "rules": {"auto": [{"take": 1}], "early": []}}', "true or false"),
        (
            '{"knows": "x", "rules": {"auto": [{"take": true, "tensor": {"colour": ["red"]}}], "early": []}}',
            "no feature 'colour'",
        ),
        (
            '{"knows": "x", "rules": {"auto": [{"take": true, "tensor": {"longest": {"over": 2}}}], "early": []}}',
            "neither a list",
        ),
        (
            '{"knows": "x", "rules": {"auto": [{"take": true, "tensor": {"kind": {"least": 2}}}], "early": []}}',
            "no number",
        ),
        *(
            ('{"knows": "x", "rules": {"auto": [], "early": []}, "unit_scales": [' + rule + "]}", words)
            for rule, words in (
                ('{"take": true, "modes": [[]]}', "modes are a list of auto, early"),
                ('{"take": true, "modes": "auto"}', "modes are a list of auto, early"),
                ('{"take": true, "modes": ["all"]}', "modes are a list of auto, early"),
                ('{"take": true, "drawn": 1}', "drawn are true or false"),
                ('{"take": true, "post": []}', "post is one of none"),
                ('{"take": true, "colour": 1}', "a rule has a model"),
            )
        ),
    ],
)
def test_a_damaged_policy_is_told(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=told):
        read_policy(path)


def test_rules_are_tried_in_order() -> None:
    tensor = TensorFeatures("conv2d", 3, 3, fan_in=27, first=True)
    model = features_of(network())[0]
    first = Rule({}, {"first": [True]}, False, "the first layer")
    assert first.holds(model, tensor)
    assert not Rule({"output_axes": {"least": 3}}, {}, True, "").holds(model, tensor)
    assert Rule(
        {"output_axes": {"most": 2}, "norm": ["batch", "none"]}, {"fan_in": {"least": 27, "most": 27}}, True, ""
    ).holds(model, tensor)


def test_a_rule_says_how_copies_are_told_apart(tmp_path: Path) -> None:
    """As with `post`, in the tensors that the rule speaks of alone."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 24, 3), nn.ReLU(), nn.Conv2d(24, 24, 3), nn.Conv2d(24, 24, 1))
    proto = export(net, torch.zeros(2, 3, 16, 16))
    folder = save_ghn(tiny_ghn(), tmp_path / "ghn")
    rules = [SPATIAL | {"post": "differences"}, EVERYTHING]
    (folder / "policy.json").write_text(json.dumps({"knows": "pictures", "rules": {"auto": rules, "early": []}}))
    found = predict(proto, ghn=folder, correct_scales=False)
    raw, apart = (
        predict(proto, ghn=folder, policy="all", post=post, correct_scales=False) for post in ("none", "differences")
    )
    np.testing.assert_array_equal(found["2.weight"], apart["2.weight"])
    np.testing.assert_array_equal(found["3.weight"], raw["3.weight"])
    assert not np.array_equal(raw["2.weight"], apart["2.weight"])
    assert len(np.unique(found["2.weight"].reshape(24, -1), axis=0)) == 24  # of 8 that are decoded
    (note,) = [note for note in found.coverage.notes if "copies of each other" in note]
    assert "3.weight" in note
