"""Keras on the backend that KERAS_BACKEND names: its own export, and ours."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from compatibility_runs.built import CLASSES, HIDDEN, IMAGE_LAST, STATE, TOKENS, WIDTH, WORDS, Built, Exporter
from compatibility_runs.cells import Cell
from compatibility_runs.exporting import measure_exporter
from compatibility_runs.rows import Row

__all__ = ["measure"]


def _conv() -> keras.Model:
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(WIDTH, 3, 2, padding="same")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(image, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def _tied() -> keras.Model:
    tokens = keras.Input((TOKENS.shape[1],), dtype="int32")
    words = layers.ReversibleEmbedding(WORDS, WIDTH)
    x = words(tokens)
    y = layers.LayerNormalization()(x)
    query, key, value = (layers.Dense(WIDTH)(y) for _ in range(3))
    scores = layers.Softmax()(ops.matmul(query, ops.transpose(key, (0, 2, 1))) / WIDTH**0.5)
    x = x + ops.matmul(scores, value)
    x = x + layers.Dense(WIDTH)(layers.Dense(HIDDEN, activation="gelu")(layers.LayerNormalization()(x)))
    return keras.Model(tokens, words(x, reverse=True))


def _lstm() -> keras.Model:
    tokens = keras.Input((TOKENS.shape[1],), dtype="int32")
    x = layers.LSTM(STATE)(layers.Embedding(WORDS, WIDTH)(tokens))
    return keras.Model(tokens, layers.Dense(CLASSES)(x))


def _build(network: str) -> Built:
    keras.utils.set_random_seed(0)
    model = {"conv": _conv, "tied": _tied, "lstm": _lstm}[network]()
    inputs = IMAGE_LAST[:1] if network == "conv" else TOKENS[:1].astype(np.int32)  # some exports fix a batch of one
    matrices = {
        weight.path: _as_outputs_inputs(weight.path, np.array(ops.convert_to_numpy(weight)))
        for weight in model.trainable_weights
        if len(weight.shape) > 1
    }
    return Built(
        model,
        [inputs],
        lambda: np.asarray(ops.convert_to_numpy(model(inputs, training=False))),
        sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        matrices,
        next(path for path in matrices if "embedding" in path) if network == "tied" else "",
    )


def _as_outputs_inputs(path: str, value: np.ndarray) -> np.ndarray:
    """Keras stores kernels as (height × width ×) inputs × outputs, and tables as words × width."""
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value if "embedding" in path else value.T


def _export(built: Built, path: Path) -> None:
    built.model.export(str(path), format="onnx", verbose=False)


def _ours(built: Built, path: Path) -> object:
    from onnx_ghn.exporters import keras as exporter

    return exporter.export(built.model, path)


def _load(built: Built, path: Path) -> object:
    from onnx_ghn.exporters import keras as exporter

    return exporter.load(built.model, path)


_EXPORTERS = {
    f"keras-{backend}{way}": Exporter(_build, export, _load)
    for backend in ("tensorflow", "jax", "torch")
    for way, export in (("", _export), ("-ours", _ours))
}


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """The cells of Keras on one backend."""
    return measure_exporter(_EXPORTERS, row, network, folder)
