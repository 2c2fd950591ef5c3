"""A callback that fills a model of Keras with predicted weights when its training begins."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from keras_backend import choose_keras_backend

choose_keras_backend("tensorflow", "jax", "torch")
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


def made_from(generator: keras.random.SeedGenerator) -> keras.Model:
    """Two convolutions of one shape, whose kernels are drawn one after the other from one generator."""
    layers, draw = keras.layers, keras.initializers.GlorotUniform(generator)
    image = keras.Input((16, 16, 8))
    x = layers.Conv2D(8, 3, kernel_initializer=draw)(layers.Conv2D(8, 3, kernel_initializer=draw)(image))
    model = keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def test_an_initializer_with_a_generator_is_not_called() -> None:
    """Each call of it draws other values, so that they show nothing, and moves on what further layers draw from."""
    generator, twin = (keras.random.SeedGenerator(7) for _ in range(2))
    model, same = made_from(generator), made_from(twin)
    first, second = (keras.ops.convert_to_numpy(model.layers[i].kernel) for i in (1, 2))
    assert not np.allclose(first, second)  # as Keras draws them
    assert first_touched(model) is None
    assert first_touched(model) is None
    later, expected = (keras.initializers.GlorotUniform(each)((3, 3, 8, 8)) for each in (generator, twin))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(later), keras.ops.convert_to_numpy(expected))
    callback = PredictedWeights(policy="all", calibrate="none")
    model.fit(np.zeros((4, 16, 16, 8), "float32"), Y, batch_size=4, epochs=1, verbose=0, callbacks=[callback])
    assert callback.report is not None
    filled = [keras.ops.convert_to_numpy(model.layers[i].kernel) for i in (1, 2)]
    assert not np.allclose(filled[0], first)
    same.layers[-1].bias.assign(np.ones(4))
    assert "/bias is not what its initializer gives" in str(first_touched(same))  # others still tell
