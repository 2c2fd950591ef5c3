"""Paddle layers there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from round_trip import check_initialize, check_round_trip, flattened_maps, run

paddle = pytest.importorskip("paddle", reason="Paddle is not installed: make test-exporters")

from onnx_ghn.errors import GraphError, OptionError  # noqa: E402
from onnx_ghn.exporters import paddle as exporter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(0).random((2, 3, 8, 8), dtype="float32")


class Net(paddle.nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        nn = paddle.nn
        self.conv = nn.Conv2D(3, 8, 3, padding=1, bias_attr=False)
        self.norm = nn.BatchNorm2D(8)
        self.depthwise = nn.Conv2D(8, 8, 3, groups=8)
        self.attention = nn.TransformerEncoderLayer(8, 2, 16)
        self.rnn = nn.LSTM(8, 6, direction="bidirect")
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(12, 10)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = paddle.nn.functional.relu(self.norm(self.conv(x)))
        x = self.attention(self.depthwise(x).flatten(2).transpose([0, 2, 1]))
        x, _ = self.rnn(x)
        return self.head(self.drop(x.mean(1)))


def make(seed: int) -> Net:
    paddle.seed(seed)
    return Net()


def call(model: Net, x: np.ndarray) -> np.ndarray:
    model.eval()
    y = model(paddle.to_tensor(x)).numpy()
    model.train()
    return y


def weights(model: Net) -> dict[str, np.ndarray]:
    found = {tensor.name: (name, tensor) for name, tensor in model.state_dict().items()}
    return {name: np.array(tensor.numpy()) for name, tensor in found.values()}


def test_there_and_back(tmp_path: Path) -> None:
    model = check_round_trip(exporter, make, call, weights, X, paddle.to_tensor(X), tmp_path)
    assert model.training
    exporter.save_weights(model, tmp_path / "w.pdparams")
    fresh = make(4)
    fresh.set_state_dict(paddle.load(str(tmp_path / "w.pdparams")))
    np.testing.assert_array_equal(call(fresh, X), call(model, X))


def test_what_cannot_be_exported_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GraphError, match="Paddle cannot export it"):
        exporter.export(make(0), tmp_path / "m.onnx", [paddle.zeros([1, 3, 8, 8])] * 2)
    assert not (tmp_path / "m.onnx").exists()
    with pytest.raises(OptionError, match=r"no paddle\.nn\.Layer"):
        exporter.export(object(), tmp_path / "m.onnx", None)
    assert capfd.readouterr().out == ""  # its compiled part prints


def test_a_flattened_map_is_known_for_one(tmp_path: Path) -> None:
    nn = paddle.nn
    net = nn.Sequential(nn.Conv2D(3, 12, 3), nn.ReLU(), nn.MaxPool2D(2), nn.Flatten(), nn.Linear(108, 10))
    exporter.export(net, tmp_path / "m.onnx", paddle.to_tensor(X))
    assert flattened_maps(tmp_path / "m.onnx") == [(9, False)]


def test_initialize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def renumbered(seed: int) -> Net:
        with paddle.utils.unique_name.guard():  # or names, from which noise is drawn, go on counting: linear_1.w_0
            return make(seed)

    check_initialize(exporter, renumbered, weights, paddle.to_tensor(X), tmp_path, monkeypatch)


def test_a_shape_stands_for_inputs(tmp_path: Path) -> None:
    exporter.export(make(0), tmp_path / "m.onnx", (None, 3, 8, 8))
    np.testing.assert_allclose(run(tmp_path / "m.onnx", X), call(make(0), X), rtol=1e-3, atol=1e-5)


def test_a_parameter_without_an_axis_goes_there_and_back(tmp_path: Path) -> None:
    class Gated(paddle.nn.Layer):
        def __init__(self, start: float) -> None:
            super().__init__()
            self.gate = self.create_parameter([], default_initializer=paddle.nn.initializer.Constant(start))
            self.head = paddle.nn.Linear(4, 3)

        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            return self.head(x + self.gate * paddle.tanh(x))

    model, other, x = Gated(0.5), Gated(2.0), X[:, 0, 0, :4]
    assert exporter.export(model, tmp_path / "m.onnx", paddle.to_tensor(x)).complete
    assert exporter.load(other, tmp_path / "m.onnx").complete
    assert float(other.gate) == 0.5
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), call(other, x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_a_weight_that_hooks_compute_is_of_the_present_weights(norm: str, tmp_path: Path) -> None:
    model = paddle.nn.Sequential(getattr(paddle.nn.utils, norm)(paddle.nn.Linear(4, 3)), paddle.nn.ReLU())
    for parameter in model.parameters():  # as a state that is loaded does, which computes nothing
        parameter.set_value(parameter * 2 + 0.5)
    x = X[:, 0, 0, :4]
    report = exporter.export(model, tmp_path / "m.onnx", paddle.to_tensor(x))
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), call(model, x), rtol=1e-4, atol=1e-6)
    assert report.unmatched
    assert all("computed something from it" in note.cause for note in report.unmatched)
