"""A callback that fills a model of Keras with predicted weights when its training begins."""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path

import numpy as np
import pytest

BACKENDS = ("tensorflow", "jax", "torch")
os.environ.setdefault("KERAS_BACKEND", next((b for b in BACKENDS if importlib.util.find_spec(b)), "torch"))
keras = pytest.importorskip("keras", reason="Keras is not installed: make test-exporters")

from onnx_ghn.errors import OptionError  # noqa: E402
from onnx_ghn.exporters.keras_callback import PredictedWeights, first_touched  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(0).random((4, 16, 16, 3), dtype="float32")
Y = np.zeros(4, int)


def make(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3)(image)))
    x = layers.SeparableConv2D(12, 3, depthwise_initializer="orthogonal")(x)
    x = layers.Reshape((-1, 12))(x)
    x = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.Dense(8)(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(image, layers.Dense(4)(layers.LayerNormalization()(x)))
    model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def kernel(model: keras.Model) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(model.layers[1].kernel))


def fit(model: keras.Model, callback: PredictedWeights) -> None:
    model.fit(X, Y, batch_size=4, epochs=1, verbose=0, callbacks=[callback])


def test_a_fresh_model_is_filled_once(caplog: pytest.LogCaptureFixture) -> None:
    model = make()
    start = kernel(model)
    assert first_touched(model) is None
    callback = PredictedWeights(policy="all", calibrate="none")
    fit(model, callback)
    assert callback.report is not None
    assert callback.report.coverage.share("predicted") > 0.9
    filled = kernel(model)  # training at a rate of 0 left it there
    assert not np.allclose(filled, start)
    again = PredictedWeights(policy="all", calibrate="none", seed=1)
    with caplog.at_level(logging.WARNING, "onnx_ghn"):
        fit(model, again)
    assert again.report is None
    np.testing.assert_array_equal(kernel(model), filled)
    assert "keeps its weights: its optimizer is at step 1" in caplog.text


def test_loaded_weights_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(1).save_weights(tmp_path / "w.weights.h5")
    model = make(2)
    model.load_weights(tmp_path / "w.weights.h5")
    callback = PredictedWeights(policy="all")
    with caplog.at_level(logging.WARNING, "onnx_ghn"):
        fit(model, callback)
    assert callback.report is None
    np.testing.assert_array_equal(kernel(model), kernel(make(1)))
    assert "/kernel is not what its initializer gives; `untouched_only=False` fills it all the same" in caplog.text
    fit(model, forced := PredictedWeights(policy="all", calibrate="none", untouched_only=False))
    assert forced.report is not None
    assert not np.allclose(kernel(model), kernel(make(1)))


def test_fresh_recurrent_layers_are_untouched() -> None:
    steps = keras.Input((4, 3))
    x = keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True))(steps)
    model = keras.Model(steps, keras.layers.GRU(4)(x))
    assert first_touched(model) is None


def test_one_loaded_layer_is_enough() -> None:
    model = make()
    model.layers[-1].bias.assign(np.full(4, 0.1, "float32"))
    assert first_touched(model) == f"{model.layers[-1].bias.path} is not what its initializer gives"


def test_options_are_checked_when_it_is_made() -> None:
    with pytest.raises(OptionError, match=r"`post_strength` 2\.0"):
        PredictedWeights(post="orthogonal", post_strength=2.0)
