"""Keras models there and back, on the backend that KERAS_BACKEND names, or on the first that is installed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from round_trip import check_round_trip, flattened_maps, run

BACKENDS = ("tensorflow", "jax", "torch")
os.environ.setdefault("KERAS_BACKEND", next((b for b in BACKENDS if importlib.util.find_spec(b)), "torch"))
keras = pytest.importorskip("keras", reason="Keras is not installed: make test-exporters")

from onnx_ghn.errors import OptionError  # noqa: E402
from onnx_ghn.exporters import keras as exporter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(0).random((1, 32, 32, 3), dtype="float32")


def make(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Conv2D(8, 3, groups=2, padding="same", activation="gelu")(x)
    x = layers.LayerNormalization()(layers.SeparableConv2D(12, 3)(x))
    x = layers.GroupNormalization(2)(layers.Conv2DTranspose(6, 2)(x))
    pooled = layers.GlobalAveragePooling2D()(x)
    x = layers.Reshape((-1, 6))(layers.AveragePooling2D(8)(x))
    x = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.LSTM(5)(x) if keras.backend.backend() == "tensorflow" else layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(0.2)(layers.Concatenate()([x, pooled]))
    x = layers.BatchNormalization()(layers.Dense(16)(x))
    return keras.Model(image, layers.Dense(10)(x))


def call(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(model(x, training=False)))


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    floats = [weight for weight in model.weights if "float" in str(weight.dtype)]
    return {str(i): np.array(keras.ops.convert_to_numpy(weight)) for i, weight in enumerate(floats)}


def test_there_and_back(tmp_path: Path) -> None:
    trained = check_round_trip(exporter, make, call, weights, X, None, tmp_path)
    exporter.save_weights(trained, tmp_path / "w.weights.h5")
    fresh = make(3)
    fresh.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_allclose(call(fresh, X), run(tmp_path / "init.onnx", X), rtol=1e-3, atol=1e-5)


def test_frozen_layers_stay(tmp_path: Path) -> None:
    from onnx_ghn.onnx_io import read_model, stored_tensors
    from onnx_ghn.onnx_io.marks import frozen_tensors

    model = make(0)
    model.layers[1].trainable = False
    exporter.export(model, tmp_path / "m.onnx")
    frozen = frozen_tensors(read_model(tmp_path / "m.onnx"))
    kernel = keras.ops.convert_to_numpy(model.layers[1].kernel)
    stored = stored_tensors(read_model(tmp_path / "m.onnx"))
    same = [n for n in frozen if np.array_equal(np.sort(stored[n].numpy(), axis=None), np.sort(kernel, axis=None))]
    assert len(same) == 1
    assert frozen[same[0]] is None  # all of it


def test_other_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no keras\.Model"):
        exporter.export(object(), tmp_path / "m.onnx")


def test_a_model_that_was_never_called(tmp_path: Path) -> None:
    told = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    report = exporter.export(told, tmp_path / "told.onnx")
    assert (report.n_elements, report.share) == (15, 1.0)
    assert f"{keras.backend.backend()}, " in report.exporter
    assert report.exporter[-1].isdigit()
    untold = keras.Sequential([keras.layers.Dense(3)])
    with pytest.raises(OptionError, match="give example inputs"):
        exporter.export(untold, tmp_path / "untold.onnx")
    exporter.export(untold, tmp_path / "untold.onnx", np.zeros((1, 4), "float32"))


def test_a_flattened_map_is_known_for_one(tmp_path: Path) -> None:
    layers = keras.layers
    net = [keras.Input((16, 16, 3)), layers.Conv2D(12, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten()]
    model = keras.Sequential([*net, layers.Dense(8, activation="relu"), layers.Dense(10)])
    exporter.export(model, tmp_path / "m.onnx")
    assert flattened_maps(tmp_path / "m.onnx") == [(49, True)]
