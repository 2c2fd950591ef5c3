"""TensorFlow modules and SavedModels there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from round_trip import check_initialize, check_round_trip, run

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed: make test-exporters")
pytest.importorskip("tf2onnx", reason="tf2onnx is not installed: make test-exporters")

from onnx_ghn.cli import cli  # noqa: E402
from onnx_ghn.errors import OptionError  # noqa: E402
from onnx_ghn.exporters import tensorflow as exporter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(0).random((2, 8, 8, 3), dtype="float32")


class Net(tf.Module):
    """A convolution, a batch norm, a depthwise convolution and a linear layer, as written without Keras."""

    def __init__(self, seed: int, *, plain_norm: bool = False) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)

        def variable(*shape: int, name: str | None = None, trainable: bool = True) -> tf.Variable:
            return tf.Variable(rng.random(shape, dtype="float32"), trainable=trainable, name=name)

        self.plain_norm = plain_norm
        self.kernel = variable(3, 3, 3, 8, name="kernel")
        self.norm = [variable(8), variable(8)]
        self.mean, self.variance = variable(8, trainable=False), variable(8, trainable=False)
        self.depthwise = variable(3, 3, 8, 1)
        self.head = {"kernel": variable(8, 10), "bias": variable(10)}

    def __call__(self, x: Any) -> Any:
        x = tf.nn.conv2d(x, self.kernel, 1, "SAME")
        scale, shift = self.norm
        if self.plain_norm:
            x = tf.nn.batch_normalization(x, self.mean, self.variance, shift, scale, 1e-3)
        else:
            fused = tf.compat.v1.nn.fused_batch_norm
            x = fused(x, scale, shift, self.mean, self.variance, epsilon=1e-3, is_training=False)[0]
        x = tf.nn.depthwise_conv2d(tf.nn.relu(x), self.depthwise, [1, 1, 1, 1], "SAME")
        return tf.reduce_mean(x, [1, 2]) @ self.head["kernel"] + self.head["bias"]


def call(model: Any, x: np.ndarray) -> np.ndarray:
    if isinstance(model, Net):
        return model(x).numpy()
    return next(iter(model.signatures["serving_default"](tf.constant(x)).values())).numpy()


def weights(model: Any) -> dict[str, np.ndarray]:
    variables = model.variables if isinstance(model, Net) else model.signatures["serving_default"].variables
    return {str(i): variable.numpy() for i, variable in enumerate(variables)}


def saved(folder: Path, seed: int) -> Path:
    net = Net(seed)
    signature = tf.function(net.__call__).get_concrete_function(tf.TensorSpec((None, 8, 8, 3)))
    tf.saved_model.save(net, str(folder), signatures=signature)
    return folder


def test_module_there_and_back(tmp_path: Path) -> None:
    model = check_round_trip(exporter, Net, call, weights, X, X, tmp_path)
    exporter.save_weights(model, tmp_path / "w.tf")
    fresh = Net(5)
    tf.train.Checkpoint(fresh).read(str(tmp_path / "w.tf" / "weights")).assert_consumed()
    np.testing.assert_array_equal(call(fresh, X), call(model, X))


def test_saved_model_there_and_back(tmp_path: Path) -> None:
    def make(seed: int) -> Any:
        return tf.saved_model.load(str(saved(tmp_path / f"saved{seed}", seed)))

    check_round_trip(exporter, make, call, weights, X, None, tmp_path)


def test_batch_norm_as_arithmetic_is_reported(tmp_path: Path) -> None:
    report = exporter.export(Net(0, plain_norm=True), tmp_path / "m.onnx", (None, 8, 8, 3))
    assert {note.shape for note in report.unmatched} == {(8,), (3, 3, 3, 8)}  # the kernel takes the scale in
    assert "folded" in report.unmatched[0].cause
    np.testing.assert_allclose(run(tmp_path / "m.onnx", X), call(Net(0, plain_norm=True), X), rtol=1e-3, atol=1e-5)


def test_commands(tmp_path: Path) -> None:
    folder, model = saved(tmp_path / "saved", 0), tmp_path / "m.onnx"
    done = CliRunner().invoke(cli, ["export", f"tensorflow:{folder}", "-o", str(model)])
    assert done.exit_code == 0, done.output
    for name, message in (("w.tf", ""), ("w.tf", "is a folder already"), ("w.npz", r"ends in .tf")):
        done = CliRunner().invoke(cli, ["load", f"tensorflow:{folder}", str(model), "-o", str(tmp_path / name)])
        assert message in str(done.exception)
        assert (done.exit_code == 0) == (not message), done.output
    done = CliRunner().invoke(cli, ["export", f"tensorflow:{tmp_path}/absent", "-o", str(tmp_path / "n.onnx")])
    assert "no folder of a SavedModel" in str(done.exception)


def test_other_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"neither a tf\.Module"):
        exporter.export(object(), tmp_path / "m.onnx")


def test_initialize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_initialize(exporter, Net, weights, (None, 8, 8, 3), tmp_path, monkeypatch)


@pytest.mark.parametrize("size", [4, 200])  # TensorFlow itself writes the smaller one as a constant
def test_a_constant_of_a_module_is_no_input(size: int, tmp_path: Path) -> None:
    class Centred(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            rng = np.random.default_rng(0)
            self.mean = tf.constant(rng.random(size, dtype="float32"))
            self.matrix = tf.Variable(rng.random((size, 3), dtype="float32"), name="matrix")

        def __call__(self, x: Any) -> Any:
            return (x - self.mean) @ self.matrix

    model, x = Centred(), np.random.default_rng(1).random((2, size), dtype="float32")
    exporter.export(model, tmp_path / "m.onnx", x)
    assert len(onnx.load(tmp_path / "m.onnx").graph.input) == 1
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), model(x).numpy(), rtol=1e-4)
