"""Flax nnx through jax2onnx, and through our export."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from compatibility_runs.built import CLASSES, HIDDEN, IMAGE_LAST, STATE, TOKENS, WIDTH, WORDS, Built, Exporter
from compatibility_runs.cells import Cell
from compatibility_runs.exporting import measure_exporter
from compatibility_runs.rows import Row

__all__ = ["as_outputs_inputs", "jax2onnx_export", "measure"]


class _Conv(nnx.Module):
    """Two convolutions with batch norm, a mean, a linear layer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv1, self.norm1 = nnx.Conv(3, 8, (3, 3), use_bias=False, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.conv2, self.norm2 = nnx.Conv(8, WIDTH, (3, 3), 2, rngs=rngs), nnx.BatchNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, H, W, 3) -> (B, classes)."""
        x = nnx.relu(self.norm1(self.conv1(x)))
        x = nnx.relu(self.norm2(self.conv2(x)))
        return self.head(x.mean((1, 2)))


class _Tied(nnx.Module):
    """Tokens, one head of attention, two linear layers, and the embedding once more as the head."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.words = nnx.Embed(WORDS, WIDTH, rngs=rngs)
        self.norm1, self.norm2 = nnx.LayerNorm(WIDTH, rngs=rngs), nnx.LayerNorm(WIDTH, rngs=rngs)
        self.query, self.key, self.value = (nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(3))
        self.wide, self.narrow = nnx.Linear(WIDTH, HIDDEN, rngs=rngs), nnx.Linear(HIDDEN, WIDTH, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """(B, T) -> (B, T, words)."""
        x = self.words(tokens)
        y = self.norm1(x)
        scores = self.query(y) @ self.key(y).swapaxes(1, 2) / WIDTH**0.5  # (B, T, d) x (B, d, T) -> (B, T, T)
        x = x + nnx.softmax(scores) @ self.value(y)
        x = x + self.narrow(nnx.gelu(self.wide(self.norm2(x))))
        return self.words.attend(x)


class _Recurrent(nnx.Module):
    """Tokens, an LSTM, a linear layer on its last state."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.words = nnx.Embed(WORDS, WIDTH, rngs=rngs)
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(WIDTH, STATE, rngs=rngs))
        self.head = nnx.Linear(STATE, CLASSES, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """(B, T) -> (B, classes)."""
        start = jnp.zeros((tokens.shape[0], STATE))  # its own start is drawn, and nothing is drawn while it is traced
        return self.head(self.rnn(self.words(tokens), initial_carry=(start, start))[:, -1])


def _build(network: str) -> Built:
    model = {"conv": _Conv, "tied": _Tied, "lstm": _Recurrent}[network](nnx.Rngs(0))
    model.eval()
    inputs = IMAGE_LAST if network == "conv" else TOKENS.astype(np.int32)
    parameters = {
        ".".join(map(str, path)): np.array(variable[...])
        for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }
    return Built(
        model,
        [inputs],
        lambda: np.asarray(model(jnp.asarray(inputs))),
        sum(value.size for value in parameters.values()),
        {name: as_outputs_inputs(name, value) for name, value in parameters.items() if value.ndim > 1},
        "words.embedding" if network == "tied" else "",
    )


def as_outputs_inputs(name: str, value: np.ndarray) -> np.ndarray:
    """Flax and haiku store kernels as (height × width ×) inputs × outputs, and tables as words × width."""
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value if "embed" in name else value.T


def jax2onnx_export(function: object, built: Built, path: Path) -> None:
    """A function of arrays, by jax2onnx with its defaults."""
    import jax2onnx

    jax2onnx.to_onnx(function, built.inputs, return_mode="file", output_path=str(path))


def _ours(built: Built, path: Path) -> object:
    from onnx_ghn.exporters import flax as exporter

    return exporter.export(built.model, path, built.inputs)


def _load(built: Built, path: Path) -> object:
    from onnx_ghn.exporters import flax as exporter

    return exporter.load(built.model, path, built.inputs)


_EXPORTERS = {
    "flax": Exporter(_build, lambda built, path: jax2onnx_export(built.model, built, path), _load),
    "flax-ours": Exporter(_build, _ours, _load),
}


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """The cells of Flax."""
    return measure_exporter(_EXPORTERS, row, network, folder)
