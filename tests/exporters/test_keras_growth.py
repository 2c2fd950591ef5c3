"""Keras models that grow from trained ones: outputs stay, in onnxruntime and back in Keras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_backend import choose_keras_backend
from round_trip import run

choose_keras_backend("tensorflow", "jax", "torch")
keras = pytest.importorskip("keras", reason="Keras is not installed: make test-exporters")

from onnx_ghn import predict  # noqa: E402
from onnx_ghn.exporters import keras as exporter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
Model = Any


def separable(width: int, depth: int = 1) -> Model:
    """Batch norms, depthwise and separable convolutions around a skip."""
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for _ in range(depth):
        y = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)))
        x = layers.Add()([x, layers.BatchNormalization()(layers.Conv2D(width, 1, use_bias=False)(y))])
    x = layers.ReLU()(layers.SeparableConv2D(2 * width, 3, strides=2, padding="same")(x))
    return keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


def flattened(width: int) -> Model:
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D()(layers.Conv2D(width, 3, activation="relu")(image))
    x = layers.Dense(4 * width, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(5)(x))


def transformer(width: int, heads: int, depth: int) -> Model:
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    x = layers.Reshape((16, width))(layers.Conv2D(width, 4, strides=4)(image))
    for _ in range(depth):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([x, layers.MultiHeadAttention(heads, 8)(y, y)])
        y = layers.Dense(4 * width, activation="gelu")(layers.LayerNormalization(epsilon=1e-6)(x))
        x = layers.Add()([x, layers.Dense(width)(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6)(x))
    return keras.Model(image, layers.Dense(5)(x))


def decoder(width: int) -> Model:
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(width, 3, padding="same", activation="relu")(image)
    x = layers.Conv2DTranspose(width, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(image, layers.Conv2D(1, 1)(x))


def recurrent(width: int, kind: str) -> Model:
    layers = keras.layers
    series = keras.Input((7, 5))
    layer = getattr(layers, kind)
    x = layer(width)(layer(width, return_sequences=True)(series))
    return keras.Model(series, layers.Dense(3)(x))


Pair = tuple[Callable[[], Model], Callable[[], Model]]
PAIRS: dict[str, Pair] = {
    "convolutions, wider": (lambda: separable(16), lambda: separable(8)),
    "convolutions, deeper": (lambda: separable(8, 3), lambda: separable(8)),
    "a flattened map": (lambda: flattened(16), lambda: flattened(8)),
    "transformer, wider and deeper": (lambda: transformer(64, 8, 3), lambda: transformer(32, 4, 2)),
    "transposed convolution": (lambda: decoder(16), lambda: decoder(8)),
    "LSTM": (lambda: recurrent(16, "LSTM"), lambda: recurrent(8, "LSTM")),
    "GRU": (lambda: recurrent(16, "GRU"), lambda: recurrent(8, "GRU")),
}


def trained(model: Model) -> Model:
    """With norms, biases and statistics that are those of no fresh model."""
    draw = np.random.default_rng(0)
    values = []
    for variable, value in zip(model.weights, model.get_weights(), strict=True):
        if "gamma" in variable.path or "variance" in variable.path:
            value = draw.uniform(0.7, 1.3, value.shape)
        elif value.ndim == 1:
            value = draw.normal(0, 0.1, value.shape)
        values.append(value.astype(np.float32))
    model.set_weights(values)
    return model


_QUICK = ("convolutions, wider", "transformer, wider and deeper")


@pytest.mark.parametrize(
    "case", [case if case in _QUICK else pytest.param(case, marks=pytest.mark.slow) for case in PAIRS]
)
def test_outputs_stay(case: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    make, make_donor = PAIRS[case]
    donor = trained(make_donor())
    recipient = make()
    for name, model in (("donor", donor), ("recipient", recipient)):
        exporter.export(model, tmp_path / f"{name}.onnx")
    prediction = predict(tmp_path / "recipient.onnx", tmp_path / "init.onnx", donors=[tmp_path / "donor.onnx"], seed=0)
    assert any("are kept, as far as floating point goes" in note for note in prediction.coverage.notes)
    x = np.random.default_rng(1).standard_normal((1, *donor.input_shape[1:])).astype(np.float32)
    expected = np.asarray(keras.ops.convert_to_numpy(donor(x, training=False)))
    np.testing.assert_allclose(run(tmp_path / "init.onnx", x), expected, atol=1e-4 * np.abs(expected).max())
    exporter.load(recipient, tmp_path / "init.onnx")
    found = np.asarray(keras.ops.convert_to_numpy(recipient(x, training=False)))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_max_pooling_runs_in_onnxruntime(n_axes: int, tmp_path: Path) -> None:
    """JAX's has windows over all axes, of which onnxruntime knows three at most."""
    layers = keras.layers
    shape = (8, 6, 4)[:n_axes]
    given = keras.Input((*shape, 3))
    x = getattr(layers, f"MaxPooling{n_axes}D")(2, padding="same")(layers.Dense(4)(given))
    model = keras.Model(given, layers.Dense(5)(layers.Flatten()(x)))
    exporter.export(model, tmp_path / "m.onnx")
    example = np.random.default_rng(0).standard_normal((1, *shape, 3)).astype(np.float32)
    expected = np.asarray(keras.ops.convert_to_numpy(model(example, training=False)))
    np.testing.assert_allclose(run(tmp_path / "m.onnx", example), expected, rtol=1e-4, atol=1e-5)
