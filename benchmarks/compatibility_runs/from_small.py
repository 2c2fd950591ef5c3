"""Software that writes ONNX without a framework behind it: aidge, ndonnx, spox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from compatibility_runs.built import CLASSES, HIDDEN, IMAGE, TOKENS, WIDTH, WORDS, Built, Exporter
from compatibility_runs.cells import Cell
from compatibility_runs.exporting import measure_exporter
from compatibility_runs.rows import Row

__all__ = ["measure"]

_Arrays = dict[str, np.ndarray]


def _drawn(shapes: dict[str, tuple[int, ...]]) -> _Arrays:
    draw = np.random.default_rng(0)
    return {name: (0.3 * draw.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


def _conv_weights() -> _Arrays:
    weights = _drawn({"conv1": (8, 3, 3, 3), "conv2": (WIDTH, 8, 3, 3), "head": (CLASSES, WIDTH)})
    vectors = {"scale": np.ones(8, np.float32), "shift": np.zeros(8, np.float32), "bias": np.zeros(CLASSES, np.float32)}
    return {**weights, **vectors}


def _convolved(weights: _Arrays) -> np.ndarray:
    """The convolutional network in numpy: padded convolutions, a batch norm of mean 0 and variance 1, a mean."""
    x = np.maximum(_correlate(IMAGE, weights["conv1"]) / np.sqrt(1 + 1e-5), 0)
    x = np.maximum(_correlate(x, weights["conv2"]), 0)
    return x.mean((2, 3)) @ weights["head"].T  # (B, d) x (d, classes) -> (B, classes)


def _correlate(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(B, in, H, W), (out, in, 3, 3) -> (B, out, H, W)."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))  # (B, in, H, W, 3, 3)
    return np.einsum("bihwkl,oikl->bohw", windows, kernel)


def _conv(make: Any) -> Built:
    weights = _conv_weights()
    matrices = {name: value for name, value in weights.items() if value.ndim > 1}
    n_trainable = sum(value.size for value in weights.values())
    return Built(make(weights), [IMAGE], lambda: _convolved(weights), n_trainable, matrices)


def _tied_weights() -> _Arrays:
    return _drawn({"words": (WORDS, WIDTH), "wide": (HIDDEN, WIDTH), "narrow": (WIDTH, HIDDEN)})


def _tied(make: Any) -> Built:
    weights = _tied_weights()

    def call() -> np.ndarray:
        x = weights["words"][TOKENS]
        x = x + np.maximum(x @ weights["wide"].T, 0) @ weights["narrow"].T
        return x @ weights["words"].T  # (B, T, d) x (d, words) -> (B, T, words)

    return Built(make(weights), [TOKENS], call, sum(v.size for v in weights.values()), weights, "words")


def _mlp(make: Any) -> Built:
    weights = _drawn({"first": (HIDDEN, 6), "second": (4, HIDDEN)})
    x = np.random.default_rng(1).random((3, 6), dtype=np.float32)

    def call() -> np.ndarray:
        return np.maximum(x @ weights["first"].T, 0) @ weights["second"].T

    return Built(make(weights), [x], call, sum(value.size for value in weights.values()), weights)


def _spox_conv(weights: _Arrays) -> onnx.ModelProto:
    import spox
    import spox.opset.ai.onnx.v20 as op

    x = spox.argument(spox.Tensor(np.float32, ("N", 3, 16, 16)))
    w = {name: op.const(value) for name, value in weights.items()}
    # Its batch_normalization has three outputs, which ONNX refuses in inference: written as arithmetic.
    channels, deviation = op.const(np.array([8, 1, 1])), op.const(np.float32(np.sqrt(1 + 1e-5)))
    y = op.div(op.conv(x, w["conv1"], pads=[1, 1, 1, 1]), deviation)
    y = op.relu(op.add(op.mul(y, op.reshape(w["scale"], channels)), op.reshape(w["shift"], channels)))
    y = op.flatten(op.global_average_pool(op.relu(op.conv(y, w["conv2"], pads=[1, 1, 1, 1]))))
    return spox.build({"x": x}, {"y": op.gemm(y, w["head"], w["bias"], transB=1)})


def _spox_tied(weights: _Arrays) -> onnx.ModelProto:
    import spox
    import spox.opset.ai.onnx.v20 as op

    tokens = spox.argument(spox.Tensor(np.int64, ("N", TOKENS.shape[1])))
    words = op.const(weights["words"])
    x = op.gather(words, tokens)
    hidden = op.relu(op.matmul(x, op.const(weights["wide"].T.copy())))
    x = op.add(x, op.matmul(hidden, op.const(weights["narrow"].T.copy())))
    return spox.build({"tokens": tokens}, {"y": op.matmul(x, op.transpose(words, perm=[1, 0]))})


def _ndonnx_mlp(weights: _Arrays) -> onnx.ModelProto:
    import ndonnx as ndx

    x = ndx.argument(shape=("N", 6), dtype=ndx.float32)
    hidden = ndx.maximum(x @ ndx.asarray(weights["first"].T.copy()), ndx.asarray(np.float32(0)))
    return ndx.build({"x": x}, {"y": hidden @ ndx.asarray(weights["second"].T.copy())})


def _ndonnx_tied(weights: _Arrays) -> onnx.ModelProto:
    import ndonnx as ndx

    tokens = ndx.argument(shape=("N", TOKENS.shape[1]), dtype=ndx.int64)
    words = ndx.asarray(weights["words"])
    x = ndx.reshape(ndx.take(words, ndx.reshape(tokens, (-1,)), axis=0), (-1, TOKENS.shape[1], WIDTH))
    hidden = ndx.maximum(x @ ndx.asarray(weights["wide"].T.copy()), ndx.asarray(np.float32(0)))
    x = x + hidden @ ndx.asarray(weights["narrow"].T.copy())
    return ndx.build({"tokens": tokens}, {"y": x @ words.T})


def _aidge_conv(weights: _Arrays) -> Any:
    import aidge_backend_cpu  # noqa: F401 - registers the implementations
    import aidge_core as aidge

    model = aidge.sequential(
        [
            aidge.PaddedConv2D(3, 8, [3, 3], padding_dims=[1, 1, 1, 1], no_bias=True, name="conv1"),
            aidge.BatchNorm2D(8, name="norm"),
            aidge.ReLU(),
            aidge.PaddedConv2D(8, WIDTH, [3, 3], padding_dims=[1, 1, 1, 1], no_bias=True, name="conv2"),
            aidge.ReLU(),
            aidge.GlobalAveragePooling(),
            aidge.FC(WIDTH, CLASSES, name="head"),
        ]
    )
    model.set_backend("cpu")
    model.set_datatype(aidge.dtype.float32)
    model.compile("cpu", aidge.dtype.float32, dims=[list(IMAGE.shape)])
    given = {
        ("conv1", 1): weights["conv1"],
        ("conv2", 1): weights["conv2"],
        ("norm", 1): weights["scale"],
        ("norm", 2): weights["shift"],
        ("norm", 3): np.zeros(8, np.float32),
        ("norm", 4): np.ones(8, np.float32),
        ("head", 1): weights["head"],
        ("head", 2): weights["bias"],
    }
    for (name, index), value in given.items():
        node = model.get_node(name)
        parent = node.input(index)[0]
        parent.get_operator().set_output(0, aidge.Tensor(value))
    return model


def _aidge_export(built: Built, path: Path) -> None:
    import aidge_onnx

    aidge_onnx.export_onnx(built.model, str(path), opset=17)


def _save(built: Built, path: Path) -> None:
    onnx.save(built.model, path)


_NETWORKS: dict[str, dict[str, Any]] = {
    "spox": {"conv": lambda: _conv(_spox_conv), "tied": lambda: _tied(_spox_tied)},
    "ndonnx": {"mlp": lambda: _mlp(_ndonnx_mlp), "tied": lambda: _tied(_ndonnx_tied)},
    "aidge": {"conv": lambda: _conv(_aidge_conv)},
}


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """The cells of one of these."""
    export = _aidge_export if row.key == "aidge" else _save
    exporter = Exporter(lambda name: _NETWORKS[row.key][name](), export)
    return measure_exporter({row.key: exporter}, row, network, folder)
