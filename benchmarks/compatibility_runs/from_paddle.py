"""Paddle: its own export, and ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from compatibility_runs.built import CLASSES, HIDDEN, IMAGE, STATE, TOKENS, WIDTH, WORDS, Built, Exporter
from compatibility_runs.cells import Cell
from compatibility_runs.exporting import measure_exporter
from compatibility_runs.rows import Row

__all__ = ["measure"]


def _conv() -> nn.Layer:
    return nn.Sequential(
        nn.Conv2D(3, 8, 3, padding=1, bias_attr=False),
        nn.BatchNorm2D(8),
        nn.ReLU(),
        nn.Conv2D(8, WIDTH, 3, 2, padding=1),
        nn.BatchNorm2D(WIDTH),
        nn.ReLU(),
        nn.AdaptiveAvgPool2D(1),
        nn.Flatten(),
        nn.Linear(WIDTH, CLASSES),
    )


class _Tied(nn.Layer):
    """Tokens, one head of attention, two linear layers, and the embedding once more as the head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.wide, self.narrow = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, tokens: paddle.Tensor) -> paddle.Tensor:
        """(B, T) -> (B, T, words)."""
        x = self.words(tokens)
        y = self.norm1(x)
        scores = paddle.matmul(self.query(y), self.key(y), transpose_y=True) / WIDTH**0.5
        x = x + paddle.matmul(nn.functional.softmax(scores), self.value(y))
        x = x + self.narrow(nn.functional.gelu(self.wide(self.norm2(x))))
        return paddle.matmul(x, self.words.weight, transpose_y=True)


class _Recurrent(nn.Layer):
    """Tokens, an LSTM, a linear layer on its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn, self.head = nn.Embedding(WORDS, WIDTH), nn.LSTM(WIDTH, STATE), nn.Linear(STATE, CLASSES)

    def forward(self, tokens: paddle.Tensor) -> paddle.Tensor:
        """(B, T) -> (B, classes)."""
        return self.head(self.rnn(self.words(tokens))[0][:, -1])


def _build(network: str) -> Built:
    paddle.seed(0)
    model = {"conv": _conv, "tied": _Tied, "lstm": _Recurrent}[network]()
    model.eval()
    inputs = IMAGE if network == "conv" else TOKENS
    parameters = {tensor.name: (name, tensor) for name, tensor in model.named_parameters()}  # cells are listed twice
    # Paddle stores the weights of linear layers as inputs × outputs, those of LSTMs as outputs × inputs.
    linear = {f"{name}.weight".lstrip(".") for name, layer in model.named_sublayers() if isinstance(layer, nn.Linear)}
    return Built(
        model,
        [inputs],
        lambda: model(paddle.to_tensor(inputs)).numpy(),
        sum(tensor.size for _, tensor in parameters.values() if not tensor.stop_gradient),
        {
            name: np.array(tensor.numpy()).T if name in linear else np.array(tensor.numpy())
            for name, tensor in parameters.values()
            if tensor.ndim > 1
        },
        "words.weight" if network == "tied" else "",
    )


def _export(built: Built, path: Path) -> None:
    specification = [paddle.static.InputSpec(value.shape, str(value.dtype)) for value in built.inputs]
    paddle.onnx.export(built.model, str(path.with_suffix("")), input_spec=specification, opset_version=17)


def _ours(built: Built, path: Path) -> object:
    from onnx_ghn.exporters import paddle as exporter

    return exporter.export(built.model, path, [paddle.to_tensor(value) for value in built.inputs])


def _load(built: Built, path: Path) -> object:
    from onnx_ghn.exporters import paddle as exporter

    return exporter.load(built.model, path, [paddle.to_tensor(value) for value in built.inputs])


_EXPORTERS = {"paddle": Exporter(_build, _export, _load), "paddle-ours": Exporter(_build, _ours, _load)}


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """The cells of Paddle."""
    return measure_exporter(_EXPORTERS, row, network, folder)
