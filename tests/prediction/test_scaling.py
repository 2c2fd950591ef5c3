"""Layers scaled to outputs of scale 1 by the user's inputs, where a policy says that it pays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

import onnx_ghn
from onnx_ghn.exporters import pytorch
from onnx_ghn.inspection import inspect_model
from onnx_ghn.onnx_io import read_model
from onnx_ghn.onnx_io.copying import copy_model
from onnx_ghn.passes.output_scales import CorrectScales
from onnx_ghn.prediction import predict
from onnx_ghn.prediction.trials import Trials

LAYERS = (nn.Conv2d, nn.Linear)


def vgg(n_outputs: int = 5, norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    norms = [[nn.BatchNorm2d(width)] if norm else [] for width in (8, 12)]
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), *norms[0], nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), *norms[1],
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, n_outputs),
    )  # fmt: skip


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    np.save(tmp_path / "samples.npy", np.random.default_rng(1).standard_normal((32, 3, 16, 16)).astype(np.float32))
    return tmp_path / "samples.npy"


def exported(net: nn.Module, tmp_path: Path) -> Path:
    pytorch.export(net, tmp_path / "net.onnx", torch.zeros(2, 3, 16, 16))
    return tmp_path / "net.onnx"


def scales(net: nn.Module, inputs: Tensor) -> list[float]:
    """Root mean squares of the outputs of its layers."""
    found: list[float] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output: found.append(float(output.square().mean().sqrt())))
        for layer in net.modules()
        if isinstance(layer, LAYERS)
    ]
    with torch.no_grad():
        net(inputs)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("policy", ["auto", "early"])
def test_each_layer_of_a_classifier_without_norms_gives_scale_one(policy: Any, samples: Path, tmp_path: Path) -> None:
    net, inputs = vgg(), torch.from_numpy(np.load(samples))
    prediction = predict(exported(net, tmp_path), tmp_path / "init.onnx", policy=policy, calibrate=samples)
    own = {name: value.clone() for name, value in net.state_dict().items()}
    pytorch.load(net, tmp_path / "init.onnx", example_inputs=torch.zeros(2, 3, 16, 16))
    assert scales(net, inputs) == pytest.approx([1, 1, 1], rel=0.06)
    assert any("so that the outputs of each layer have scale 1" in note for note in prediction.coverage.notes)
    # What is kept is the author's start, multiplied by one number.
    ratio = net.state_dict()["7.weight"] / own["7.weight"]
    assert ratio.std() < 1e-5
    assert not torch.allclose(ratio.mean(), torch.ones(()), atol=0.05)


@pytest.mark.parametrize("case", ["norms", "regression", "drawn inputs", "none", "all"])
def test_other_models_keep_their_scales(case: str, samples: Path, tmp_path: Path) -> None:
    net = vgg(1 if case == "regression" else 5, norm=case == "norms")
    source = exported(net, tmp_path)
    calibrate = "synthetic" if case == "drawn inputs" else samples
    policy: Any = case if case in ("none", "all") else "auto"
    prediction = predict(source, policy=policy, calibrate=calibrate)
    assert not any("have scale 1" in note for note in prediction.coverage.notes)
    if case != "all":
        head = next(name for name in prediction if prediction[name].shape == ((1 if case == "regression" else 5), 12))
        (own,) = (onnx.numpy_helper.to_array(t) for t in onnx.load(source).graph.initializer if t.name == head)
        np.testing.assert_array_equal(prediction[head], own)


def test_what_is_kept_by_name_is_not_scaled(samples: Path, tmp_path: Path) -> None:
    net = vgg()
    prediction = predict(exported(net, tmp_path), calibrate=samples, exclude="^7")
    own = net.state_dict()["7.weight"].numpy()
    assert "7.weight" not in prediction or np.array_equal(prediction["7.weight"], own)


def test_a_policy_may_leave_it_out(samples: Path, tmp_path: Path) -> None:
    shipped = Path(onnx_ghn.list_ghns()[0].path)
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((shipped / name).read_bytes())
    rules = json.loads((shipped / "policy.json").read_text())
    rules.pop("unit_scales")
    (tmp_path / "policy.json").write_text(json.dumps(rules))
    prediction = predict(exported(vgg(), tmp_path), ghn=tmp_path, calibrate=samples)
    assert not any("have scale 1" in note for note in prediction.coverage.notes)


# -- by inputs that are drawn --------------------------------------------------------------------------------


class Encoder(nn.Module):
    """A little transformer of tokens, whose layers give outputs of scales far from 1."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(50, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(16, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, 12) -> (B, 7)."""
        answer: Tensor = self.head(self.layer(self.table(tokens)).mean(1))
        return answer


TOKENS = torch.arange(24).reshape(2, 12)


def ghn_that_scales(folder: Path, **rule: object) -> Path:
    """The shipped GHN with a policy that predicts nothing and scales every model's layers."""
    shipped = Path(onnx_ghn.list_ghns()[0].path)
    for name in ("model.safetensors", "config.json"):
        (folder / name).write_bytes((shipped / name).read_bytes())
    scales = [{"model": {}, "take": True, "why": "all of them", **rule}]
    policy = {"knows": "pictures", "rules": {"auto": [], "early": []}, "unit_scales": scales}
    (folder / "policy.json").write_text(json.dumps(policy))
    return folder


def encoder_file(tmp_path: Path) -> tuple[Encoder, Path]:
    net = Encoder().eval()
    pytorch.export(net, tmp_path / "net.onnx", TOKENS)
    return net, tmp_path / "net.onnx"


def test_drawn_inputs_scale_layers_where_the_policy_says_that_they_do(tmp_path: Path) -> None:
    net, source = encoder_file(tmp_path)
    ghn = ghn_that_scales(tmp_path, drawn=True)
    prediction = predict(source, tmp_path / "init.onnx", ghn=ghn)
    (note,) = (note for note in prediction.coverage.notes if "have scale 1 on drawn inputs (LSUV)" in note)
    own = {name: value.clone() for name, value in net.state_dict().items()}
    pytorch.load(net, tmp_path / "init.onnx", example_inputs=TOKENS)
    # Other tokens than those that were drawn: the scales are about 1, and were far from it.
    tokens = torch.randint(0, 50, (64, 12), generator=torch.Generator().manual_seed(5))
    assert scales(net, tokens)[-1] == pytest.approx(1, rel=0.25)
    assert scales(Encoder().eval(), tokens)[-1] < 0.7
    entries = {entry.parameter.name: entry for entry in prediction.coverage.entries}
    scaled = {name: entry.factor for name, entry in entries.items() if entry.factor != 1}
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, own[name] * scaled.get(name, 1.0), rtol=1e-5, atol=1e-7)
    assert "head.weight" in scaled
    assert "table.weight" not in scaled
    assert entries["head.weight"].reason.endswith("; scaled")
    assert note.startswith(f"{len(scaled)} tensors are scaled")
    assert f"the others keep their start, {len(scaled)} of them scaled" in prediction.coverage.sentence
    assert prediction.coverage.count("kept") == len(entries)
    assert prediction.coverage.n_scaled == len(scaled)
    foretold = inspect_model(source, ghn=ghn).coverage.sentence
    assert "the others keep their start, scaled layer by layer" in foretold


@pytest.mark.parametrize("case", ["calibrate none", "policy none", "rule for the user's inputs", "trained"])
def test_nothing_is_scaled_otherwise(case: str, tmp_path: Path) -> None:
    net = Encoder().eval()
    if case == "trained":
        with torch.no_grad():
            net.layer.norm1.weight.uniform_(0.5, 2)
    pytorch.export(net, tmp_path / "net.onnx", TOKENS)
    ghn = ghn_that_scales(tmp_path, drawn=case != "rule for the user's inputs")
    options: dict[str, Any] = {
        "calibrate none": {"calibrate": "none"},
        "policy none": {"policy": "none"},
    }.get(case, {})
    prediction = predict(tmp_path / "net.onnx", ghn=ghn, **options)
    assert not any("have scale 1" in note for note in prediction.coverage.notes)
    np.testing.assert_array_equal(prediction["head.weight"], net.state_dict()["head.weight"].numpy())


def test_a_model_that_cannot_be_run_keeps_its_scales_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnx_ghn.errors import RuntimeFailure
    from onnx_ghn.prediction.trials import Trials

    def fail(*_: object) -> None:
        raise RuntimeFailure("no such operator")

    net, source = encoder_file(tmp_path)
    monkeypatch.setattr(Trials, "run", fail)
    prediction = predict(source, ghn=ghn_that_scales(tmp_path, drawn=True))
    assert "no layer is scaled: no such operator" in prediction.coverage.notes
    np.testing.assert_array_equal(prediction["head.weight"], net.state_dict()["head.weight"].numpy())


def test_statistics_are_set_beside_scaled_layers(tmp_path: Path) -> None:
    prediction = predict(exported(vgg(norm=True), tmp_path), ghn=ghn_that_scales(tmp_path, drawn=True))
    statistics = [e for e in prediction.coverage.entries if e.outcome == "statistic"]
    assert len(statistics) == 4
    for entry in statistics:
        own = 0.0 if "mean" in entry.parameter.name else 1.0
        assert np.abs(prediction[entry.parameter.name] - own).max() > 1e-3 or "mean" in entry.parameter.name


def test_a_head_that_begins_near_zero_stays_there(tmp_path: Path) -> None:
    """As BEiT's, whose author multiplies it by 0.001."""
    net = Encoder().eval()
    with torch.no_grad():
        net.head.weight.mul_(1e-3)
        net.head.bias.zero_()
    pytorch.export(net, tmp_path / "net.onnx", TOKENS)
    prediction = predict(tmp_path / "net.onnx", ghn=ghn_that_scales(tmp_path, drawn=True))
    factors = {e.parameter.name: e.factor for e in prediction.coverage.entries}
    assert factors["head.weight"] == 1
    assert factors["layer.linear1.weight"] > 1.1
    np.testing.assert_array_equal(prediction["head.weight"], net.state_dict()["head.weight"].numpy())


def test_what_has_no_weights_is_drawn_and_then_scaled(tmp_path: Path) -> None:
    _, source = encoder_file(tmp_path)
    onnx_ghn.strip(source, tmp_path / "bare.onnx")
    prediction = predict(tmp_path / "bare.onnx", ghn=ghn_that_scales(tmp_path, drawn=True))
    assert any("have scale 1 on drawn inputs" in note for note in prediction.coverage.notes)
    assert prediction.coverage.count("fallback") > 0
    factors = [row["factor"] for row in prediction.coverage.to_dict()["parameters"] if "factor" in row]
    (note,) = (note for note in prediction.coverage.notes if "have scale 1" in note)
    assert note.startswith(f"{len(factors)} tensors are scaled")
    assert f"get a standard start, {len(factors)} of them scaled" in prediction.coverage.sentence


# -- what an author chose stays, and so does what no input reaches --------------------------------------------


class Chosen(nn.Module):
    """Layers with a start that its author chose, beside plain ones."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(16, 16)
        self.prior = nn.Linear(16, 9)
        self.tiny = nn.Linear(16, 9)
        self.grid = nn.Linear(2, 9)  # of positions: it is applied to a constant
        self.token = nn.Parameter(torch.randn(1, 1, 16) * 1e-6)
        self.norm = nn.LayerNorm(16)
        self.behind = nn.Linear(16, 9)
        with torch.no_grad():
            self.prior.bias.fill_(-6.9)
            self.tiny.weight.mul_(1e-3)
            self.tiny.bias.zero_()
        self.register_buffer("places", torch.linspace(-8, 8, 24).reshape(12, 2))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 12, 16) -> (B, 9)."""
        x = torch.tanh(self.first(pixels))
        positions = self.grid(self.places).mean(0)
        token = self.behind(self.norm(self.token + 1e-7 * x[:, :1]))[:, 0]
        answer: Tensor = self.prior(x.mean(1)) + self.tiny(x.mean(1)) + positions + token
        return answer


def factors_of(net: nn.Module, inputs: Tensor, tmp_path: Path, **options: Any) -> dict[str, float]:
    pytorch.export(net, tmp_path / "net.onnx", inputs)
    prediction = predict(tmp_path / "net.onnx", ghn=ghn_that_scales(tmp_path, drawn=True), **options)
    return {e.parameter.name: e.factor for e in prediction.coverage.entries if e.factor != 1}


def test_what_an_author_chose_or_no_input_reaches_is_not_scaled(tmp_path: Path) -> None:
    factors = factors_of(Chosen().eval(), torch.randn(2, 12, 16), tmp_path)
    assert {name.split(".")[0] for name in factors} == {"first", "prior"}
    assert "prior.bias" not in factors


def test_a_bias_that_stays_is_left_out_of_the_scale(tmp_path: Path) -> None:
    net = Chosen().eval()
    factor = factors_of(net, torch.randn(2, 12, 16), tmp_path)["prior.weight"]
    assert factor > 1  # with the bias of -6.9 the outputs would be too large, and the weight be shrunk


def test_layers_in_functions_are_scaled_alike(tmp_path: Path) -> None:
    """A function whose operators are linear shifts the numbers of those behind it."""
    generator = np.random.default_rng(0)
    weights = {f"w{i}": (generator.standard_normal((8, 8)) * 0.05).astype(np.float32) for i in range(4)}
    twice = helper.make_function(
        "local",
        "Twice",
        ["x", "a", "b"],
        ["y"],
        [
            helper.make_node("MatMul", ["x", "a"], ["h"]),
            helper.make_node("Tanh", ["h"], ["t"]),
            helper.make_node("MatMul", ["t", "b"], ["y"]),
        ],
        [helper.make_opsetid("", 17)],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Twice", ["x", "w0", "w1"], ["u"], domain="local"),
            helper.make_node("Tanh", ["u"], ["v"]),
            helper.make_node("MatMul", ["v", "w2"], ["p"]),
            helper.make_node("Tanh", ["p"], ["q"]),
            helper.make_node("MatMul", ["q", "w3"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 8])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=9), tmp_path / "net.onnx")
    prediction = predict(tmp_path / "net.onnx", ghn=ghn_that_scales(tmp_path, drawn=True))
    x = np.random.default_rng(3).standard_normal((256, 8))
    for i in range(4):
        x = x @ prediction[f"w{i}"]
        assert np.sqrt(np.mean(x**2)) == pytest.approx(1, rel=0.2)
        x = np.tanh(x)


def test_a_table_that_is_a_layer_too_is_not_scaled(tmp_path: Path) -> None:
    net = Encoder().eval()
    net.head = nn.Linear(16, 50, bias=False)
    net.head.weight = net.table.weight
    factors = factors_of(net, TOKENS, tmp_path)
    assert "layer.linear1.weight" in factors
    assert not {"table.weight", "head.weight"} & factors.keys()


def test_a_bias_of_positions_is_no_sign_of_training(tmp_path: Path) -> None:
    """In XCiT a layer is applied to sines; its bias, of many values, stands beside its weight in one constant."""

    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.place = nn.Conv2d(4, 8, 1)
            self.stem = nn.Conv2d(3, 8, 4, 4)
            self.norm = nn.LayerNorm(8)
            self.head = nn.Linear(8, 5)
            self.register_buffer("sines", torch.sin(torch.arange(64.0)).reshape(1, 4, 4, 4))

        def forward(self, x: Tensor) -> Tensor:
            """(B, 3, 16, 16) -> (B, 5)."""
            y = (self.stem(x) + self.place(self.sines)).flatten(2).transpose(1, 2)
            answer: Tensor = self.head(self.norm(y).mean(1))
            return answer

    pytorch.export(Positions().eval(), tmp_path / "net.onnx", torch.zeros(2, 3, 16, 16))
    assert "trained" not in predict(tmp_path / "net.onnx").coverage.sentence


def test_a_weight_is_not_scaled_that_ran_before_it_was(tmp_path: Path) -> None:
    """The first of two operators that share a weight feeds a norm and needs no factor: the second gives it none."""
    weight = (np.random.default_rng(0).standard_normal((8, 8)) * 0.05).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("LayerNormalization", ["h", "g"], ["n"]),
            helper.make_node("MatMul", ["n", "w"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["b", 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["b", 8])],
        [
            onnx.numpy_helper.from_array(weight, "w"),
            onnx.numpy_helper.from_array(np.ones(8, np.float32), "g"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "net.onnx")
    prediction = predict(tmp_path / "net.onnx", ghn=ghn_that_scales(tmp_path, drawn=True))
    np.testing.assert_array_equal(prediction["w"], weight)


def test_biases_of_zeros_are_not_counted_as_scaled(tmp_path: Path) -> None:
    net = Chosen().eval()
    with torch.no_grad():
        net.prior.bias.zero_()
    assert factors_of(net, torch.randn(2, 12, 16), tmp_path).keys() == {"first.weight", "prior.weight"}


# -- what it costs --------------------------------------------------------------------------------------------


def test_a_layer_that_is_scaled_runs_once(tmp_path: Path) -> None:
    """The model that is run multiplies what a layer gives, as long as its bias is scaled with its weight."""
    model = read_model(exported(vgg(), tmp_path))
    layers = [node.op_type for node in model.graph if node.op_type in ("Conv", "Gemm")]
    biases = [name for name in model.graph.initializers if name.endswith("bias")]
    for left_out, n_more in (("", 0), (biases[0], 1)):
        copy = copy_model(model)
        scalable = set(copy.graph.initializers) - {left_out}
        CorrectScales(None, scalable, 1.05).call(copy)
        found = [node.op_type for node in copy.graph if node.op_type in ("Conv", "Gemm")]
        assert len(found) == len(layers) + n_more


def test_what_the_scaled_model_computes_is_what_it_gives_out_in_factors(samples: Path, tmp_path: Path) -> None:
    """The outputs of the run itself are those of the model with its weights multiplied by the factors."""
    net = vgg()
    model = read_model(exported(net, tmp_path))
    trial = Trials(samples, 0, 32).run(model, CorrectScales(None, set(model.graph.initializers), 1.05))
    state = {name: value * trial.factors.get(name, 1.0) for name, value in net.state_dict().items()}
    assert set(trial.factors) == set(state)
    net.load_state_dict(state)
    with torch.no_grad():
        outputs = net(torch.from_numpy(np.load(samples)))
    (measured,) = trial.outputs.values()
    assert measured == pytest.approx(float(outputs.square().mean().sqrt()), rel=1e-5)
