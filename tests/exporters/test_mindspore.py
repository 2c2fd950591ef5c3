"""MindSpore cells there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from round_trip import check_initialize, check_round_trip

mindspore = pytest.importorskip("mindspore", reason="MindSpore is not installed: make test-exporters")

from onnx_ghn.errors import OptionError  # noqa: E402
from onnx_ghn.exporters import mindspore as exporter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(0).random((2, 3, 8, 8), dtype="float32")


class Net(mindspore.nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        nn = mindspore.nn
        self.conv = nn.Conv2d(3, 8, 3, pad_mode="pad", padding=1, has_bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, pad_mode="pad", padding=1, group=8, has_bias=True)
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(8, 8)
        self.flat = nn.Flatten()
        self.drop = nn.Dropout(p=0.3)
        self.head = nn.Dense(8, 10)

    def construct(self, x: mindspore.Tensor) -> mindspore.Tensor:
        x = self.relu(self.norm(self.conv(x)))
        return self.head(self.drop(self.flat(self.pool(self.depthwise(x)))))


def make(seed: int) -> Net:
    mindspore.set_seed(seed)
    net = Net()
    net.set_train(True)
    return net


def call(model: Net, x: np.ndarray) -> np.ndarray:
    model.set_train(False)
    y = model(mindspore.Tensor(x)).asnumpy()
    model.set_train(True)
    return y


def weights(model: Net) -> dict[str, np.ndarray]:
    return {name: np.array(parameter.asnumpy()) for name, parameter in model.parameters_and_names()}


def test_there_and_back(tmp_path: Path) -> None:
    # MindSpore 2.10 fails inside (anf.cc: "i: 6 out of range") when a second batch norm is exported after a call.
    model = check_round_trip(exporter, make, call, weights, X, mindspore.Tensor(X), tmp_path, again=False)
    assert model.training
    exporter.save_weights(model, tmp_path / "w.ckpt")
    fresh = make(4)
    mindspore.load_checkpoint(str(tmp_path / "w.ckpt"), fresh)
    np.testing.assert_array_equal(call(fresh, X), call(model, X))


def test_other_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no mindspore\.nn\.Cell"):
        exporter.export(object(), tmp_path / "m.onnx", None)


def test_initialize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_initialize(exporter, make, weights, (2, 3, 8, 8), tmp_path, monkeypatch)
