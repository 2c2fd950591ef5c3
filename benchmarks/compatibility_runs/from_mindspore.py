"""MindSpore: its own export, and ours."""

from __future__ import annotations

from pathlib import Path

import mindspore
import numpy as np
from mindspore import nn, ops

from compatibility_runs.built import CLASSES, HIDDEN, IMAGE, STATE, TOKENS, WIDTH, WORDS, Built, Exporter
from compatibility_runs.cells import Cell
from compatibility_runs.exporting import measure_exporter
from compatibility_runs.rows import Row

__all__ = ["measure"]


class _Conv(nn.Cell):
    """Two convolutions with batch norm, pooling, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, pad_mode="pad", padding=1, has_bias=False), nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, WIDTH, 3, 2, pad_mode="pad", padding=1, has_bias=True)
        self.norm2, self.relu = nn.BatchNorm2d(WIDTH), nn.ReLU()
        self.pool, self.flat, self.head = nn.AvgPool2d(8, 8), nn.Flatten(), nn.Dense(WIDTH, CLASSES)

    def construct(self, x: mindspore.Tensor) -> mindspore.Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.relu(self.norm2(self.conv2(x)))
        return self.head(self.flat(self.pool(x)))


class _Tied(nn.Cell):
    """Tokens, one head of attention, two linear layers, and the embedding once more as the head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm([WIDTH]), nn.LayerNorm([WIDTH])
        self.query, self.key, self.value = nn.Dense(WIDTH, WIDTH), nn.Dense(WIDTH, WIDTH), nn.Dense(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Dense(WIDTH, HIDDEN), nn.Dense(HIDDEN, WIDTH)

    def construct(self, tokens: mindspore.Tensor) -> mindspore.Tensor:
        """(B, T) -> (B, T, words)."""
        x = self.words(tokens)
        y = self.norm1(x)
        scores = ops.matmul(self.query(y), self.key(y).transpose(0, 2, 1)) / WIDTH**0.5
        x = x + ops.matmul(ops.softmax(scores, -1), self.value(y))
        x = x + self.narrow(ops.relu(self.wide(self.norm2(x))))
        return ops.matmul(x, self.words.embedding_table.T)


class _Recurrent(nn.Cell):
    """Tokens, an LSTM, a linear layer on its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.rnn = nn.LSTM(WIDTH, STATE, batch_first=True)
        self.head = nn.Dense(STATE, CLASSES)

    def construct(self, tokens: mindspore.Tensor) -> mindspore.Tensor:
        """(B, T) -> (B, classes)."""
        return self.head(self.rnn(self.words(tokens))[0][:, -1])


def _build(network: str) -> Built:
    mindspore.set_seed(0)
    model = {"conv": _Conv, "tied": _Tied, "lstm": _Recurrent}[network]()
    model.set_train(False)
    inputs = IMAGE if network == "conv" else TOKENS.astype(np.int32)
    parameters = {p.name: p.asnumpy().copy() for p in model.trainable_params()}
    return Built(
        model,
        [inputs],
        lambda: model(mindspore.Tensor(inputs)).asnumpy(),
        sum(value.size for value in parameters.values()),
        {name: value for name, value in parameters.items() if value.ndim > 1 and min(value.shape[:2]) > 1},
        "words.embedding_table" if network == "tied" else "",
    )


def _export(built: Built, path: Path) -> None:
    mindspore.export(
        built.model, *(mindspore.Tensor(value) for value in built.inputs), file_name=str(path), file_format="ONNX"
    )


def _ours(built: Built, path: Path) -> object:
    from onnx_ghn.exporters import mindspore as exporter

    return exporter.export(built.model, path, [mindspore.Tensor(value) for value in built.inputs])


def _load(built: Built, path: Path) -> object:
    from onnx_ghn.exporters import mindspore as exporter

    return exporter.load(built.model, path, [mindspore.Tensor(value) for value in built.inputs])


_EXPORTERS = {"mindspore": Exporter(_build, _export, _load), "mindspore-ours": Exporter(_build, _ours, _load)}


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """The cells of MindSpore."""
    return measure_exporter(_EXPORTERS, row, network, folder)
