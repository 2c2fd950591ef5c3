"""Scales that are estimated without a run, against those that onnxruntime gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from predict_models import Net, besides_copies, cnn, export, run, session, tiny_ghn
from test_settling import dense, loud_ghn, residual
from torch import nn

from onnx_ghn import predict, strip
from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.ghn import GHN
from onnx_ghn.prediction import PredictOptions
from onnx_ghn.prediction.propagation import Propagation


def vgg() -> nn.Module:
    parts: list[nn.Module] = []
    for n_in, n_out in ((3, 16), (16, 16), (16, 32), (32, 32)):
        parts += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*parts, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 64, 32), nn.ReLU(), nn.Linear(32, 10))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.na, self.nb = nn.BatchNorm2d(16), nn.BatchNorm2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.nb(self.b(torch.relu(self.na(self.a(x))))))


def resnet() -> nn.Module:
    body = [Block() for _ in range(4)]
    return nn.Sequential(nn.Conv2d(3, 16, 3), *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


NETS = {"dense": dense, "residual": residual, "vgg": vgg, "resnet": resnet}


def saved(name: str, path: Path) -> np.ndarray:
    """A network of which norms have the statistics of its inputs, in a file; inputs for it."""
    torch.manual_seed(0)
    net = NETS[name]()
    x = torch.randn(16, 16) if name == "dense" else torch.randn(16, 3, 16, 16)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        net.train()(x)
    options = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    export(net.eval(), (x,), path, **options)
    return x.numpy()


def scale(path: Path, x: np.ndarray) -> float:
    name = session(path).get_inputs()[0].name
    return float(np.sqrt(np.mean(np.square(run(path, {name: x})[0].astype(np.float64)))))


@pytest.mark.parametrize("name", NETS)
def test_estimates_are_near_what_onnxruntime_gives(name: str, tmp_path: Path) -> None:
    x = saved(name, tmp_path / "m.onnx")
    propagation = Propagation()
    (estimate,) = propagation.run(ir.load(tmp_path / "m.onnx")).outputs.values()
    assert propagation.unknown == set()
    assert 1 / 5 < estimate / scale(tmp_path / "m.onnx", x) < 5


@pytest.mark.parametrize("name", ["dense", "residual", "vgg"])
def test_without_a_runtime_outputs_come_near_all_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = saved(name, tmp_path / "own.onnx")
    predict(tmp_path / "own.onnx", tmp_path / "raw.onnx", ghn=loud_ghn(), correct_scales=False)

    def absent(*_: object, **__: object) -> None:
        raise RuntimeFailure("onnxruntime is not installed")

    monkeypatch.setattr("onnx_ghn.runtime.open_session", absent)
    found = predict(tmp_path / "own.onnx", tmp_path / "new.onnx", ghn=loud_ghn())
    monkeypatch.undo()
    own, raw, new = (scale(tmp_path / f"{which}.onnx", x) for which in ("own", "raw", "new"))
    assert raw > 20 * own
    assert 0.1 < new / own < 10
    (note,) = [note for note in found.coverage.notes if "scaled" in note]
    assert note.endswith("(estimated: nothing was run)")


@pytest.mark.parametrize("name", ["dense", "residual", "vgg"])
def test_without_calibration_scales_are_estimated_and_corrected(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = saved(name, tmp_path / "own.onnx")
    raw = predict(tmp_path / "own.onnx", tmp_path / "raw.onnx", ghn=loud_ghn(), calibrate="none", correct_scales=False)
    monkeypatch.setattr("onnx_ghn.runtime.open_session", lambda *_, **__: pytest.fail("opened a session"))
    found = predict(tmp_path / "own.onnx", tmp_path / "new.onnx", ghn=loud_ghn(), calibrate="none")
    monkeypatch.undo()
    assert not [note for note in raw.coverage.notes if "scale" in note]
    own, loud, new = (scale(tmp_path / f"{which}.onnx", x) for which in ("own", "raw", "new"))
    assert loud > 20 * own  # what it is about
    assert 0.1 < new / own < 10
    (note,) = [note for note in found.coverage.notes if "scale" in note]
    assert note.endswith("(estimated: nothing was run)")


def quiet_ghn() -> GHN:
    """A GHN whose weights are far too small."""
    ghn = loud_ghn()
    with torch.no_grad():
        for parameter in ghn.decoder.parameters():
            parameter.mul_(0.1)
    return ghn


@pytest.mark.parametrize("name", ["dense", "residual", "vgg"])
def test_estimates_make_no_weight_larger_than_it_was_predicted(name: str, tmp_path: Path) -> None:
    """Predicted units are alike, so that outputs are larger than estimates tell, and would be more so.

    Outputs that a run tells to be too small are brought to the scale of the weights to compare with.
    """
    x = saved(name, tmp_path / "own.onnx")
    strip(tmp_path / "own.onnx", tmp_path / "bare.onnx")
    predictions = {}
    for which, options in {
        "standard": PredictOptions(policy="none"),
        "raw": PredictOptions(calibrate="none", correct_scales=False),
        "estimated": PredictOptions(calibrate="none"),
        "run": PredictOptions(),
    }.items():
        new = tmp_path / f"{which}.onnx"
        predictions[which] = predict(tmp_path / "bare.onnx", new, ghn=quiet_ghn(), options=options)
    standard, raw, run = (scale(tmp_path / f"{which}.onnx", x) for which in ("standard", "raw", "run"))
    assert raw < standard / 5  # what it is about
    assert 0.1 < run / standard < 10
    for tensor, values in predictions["raw"].items():
        np.testing.assert_array_equal(predictions["estimated"][tensor], values)
    notes = besides_copies(predictions["estimated"].coverage.notes)
    assert "the scale of the outputs is only estimated: nothing was run" in notes


def test_without_calibration_one_line_says_that_nothing_was_run() -> None:
    near = predict(cnn(), ghn=tiny_ghn(), calibrate="none")
    raw = predict(cnn(), ghn=tiny_ghn(), calibrate="none", correct_scales=False)
    assert besides_copies(near.coverage.notes) == ["the scale of the outputs is only estimated: nothing was run"]
    assert besides_copies(raw.coverage.notes) == []
    for name, values in raw.items():
        np.testing.assert_array_equal(near[name], values)


def test_without_calibration_one_line_names_operators_without_a_rule() -> None:
    net = Net()
    net.input("N", 8)
    net.op("Mystery", net.op("MatMul", "x", net.random("w", 8, 8), out="h"), out="y", domain="acme")
    prediction = predict(net.model("y", shape=["N", 8]), ghn=loud_ghn(), calibrate="none")
    assert prediction.coverage.notes == [
        "the scale of the outputs is not checked, as no rule tells what acme::Mystery does to it: nothing was run"
    ]


@pytest.mark.parametrize("kind", ["MatMul", "Div", "Mul"])
def test_an_operator_that_lacks_an_input_has_no_scale(kind: str) -> None:
    net = Net()
    net.input("N", 8)
    net.op(kind, net.op("MatMul", "x", net.random("w", 8, 8), out="h"), out="y")
    estimates = Propagation()
    assert estimates.run(ir.from_proto(net.model("y", shape=["N", 8]))).outputs == {}
    assert estimates.unknown == {f"{kind} of 1 inputs"}
