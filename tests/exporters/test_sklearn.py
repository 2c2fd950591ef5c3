"""Multilayer perceptrons of scikit-learn there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from round_trip import check_initialize, check_round_trip

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")

from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from onnx_ghn.errors import OptionError
from onnx_ghn.exporters import sklearn as exporter

pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(0).random((40, 6), dtype="float32")
Y = (2 * X.sum(1)).astype(int) % 4


def weights(model: MLPRegressor) -> dict[str, np.ndarray]:
    perceptron = model.steps[-1][1] if hasattr(model, "steps") else model
    arrays = [*perceptron.coefs_, *perceptron.intercepts_]
    return {str(i): array.copy() for i, array in enumerate(arrays)}


def test_regressor_in_a_pipeline(tmp_path: Path) -> None:
    def make(seed: int) -> object:
        perceptron = MLPRegressor(hidden_layer_sizes=(16, 8), max_iter=2, random_state=seed)
        return make_pipeline(StandardScaler(), perceptron).fit(X, Y)

    model = check_round_trip(exporter, make, lambda m, x: m.predict(x).reshape(-1, 1), weights, X, None, tmp_path)
    exporter.save_weights(model, tmp_path / "w.npz")
    with np.load(tmp_path / "w.npz") as saved:
        np.testing.assert_array_equal(saved["coefs_[0]"], model.steps[-1][1].coefs_[0])


def test_classifier_goes_on_training(tmp_path: Path) -> None:
    model = MLPClassifier((16,), random_state=0)
    model.partial_fit(X[:4], Y[:4], classes=np.arange(4))
    exporter.export(model, tmp_path / "m.onnx")
    model.coefs_[0][...] = 0
    exporter.load(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": X})[1], model.predict_proba(X), rtol=1e-3, atol=1e-5)
    before = model.coefs_[0].copy()
    model.partial_fit(X, Y)
    assert not np.array_equal(model.coefs_[0], before)


def test_a_file_that_ends_in_maps_is_loaded(tmp_path: Path) -> None:
    import onnx
    from skl2onnx import to_onnx

    model = MLPClassifier((16,), random_state=0)
    model.partial_fit(X, Y, classes=np.arange(4))
    onnx.save(to_onnx(model, X[:1]), tmp_path / "maps.onnx")
    expected, matrix = model.predict_proba(X), model.coefs_[0].copy()
    model.coefs_[0][...] = model.coefs_[1][...] = 0
    exporter.load(model, tmp_path / "maps.onnx")
    np.testing.assert_array_equal(model.coefs_[0], matrix)
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-6)


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="before its first fit"):
        exporter.export(MLPClassifier(), tmp_path / "m.onnx")
    with pytest.raises(OptionError, match="LogisticRegression has no layers"):
        exporter.export(LogisticRegression().fit(X, Y), tmp_path / "m.onnx")


def test_initialize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(seed: int) -> object:
        return MLPRegressor(hidden_layer_sizes=(16, 8), max_iter=2, random_state=seed).fit(X.astype(np.float64), Y)

    assert make(0).coefs_[0].dtype == np.float64  # which stays to its last digit, though the file is of float32
    check_initialize(exporter, make, weights, None, tmp_path, monkeypatch)
