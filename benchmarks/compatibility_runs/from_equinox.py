"""equinox through jax2onnx, and through our export. Its batch norm, whose state goes beside it, is not supported."""

from __future__ import annotations

from pathlib import Path

import equinox
import jax
import jax.numpy as jnp
import numpy as np

from compatibility_runs.built import CLASSES, HIDDEN, IMAGE, STATE, TOKENS, WIDTH, WORDS, Built, Exporter
from compatibility_runs.cells import Cell
from compatibility_runs.exporting import measure_exporter
from compatibility_runs.from_flax import jax2onnx_export
from compatibility_runs.rows import Row
from onnx_ghn.exporters.equinox import EquinoxModel

__all__ = ["measure"]


class _Conv(equinox.Module):
    """Two convolutions with group norm, a mean, a linear layer."""

    conv1: equinox.nn.Conv2d
    norm1: equinox.nn.GroupNorm
    conv2: equinox.nn.Conv2d
    head: equinox.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 3)
        self.conv1 = equinox.nn.Conv2d(3, 8, 3, padding=1, use_bias=False, key=keys[0])
        self.norm1 = equinox.nn.GroupNorm(2, 8)
        self.conv2 = equinox.nn.Conv2d(8, WIDTH, 3, 2, 1, key=keys[1])
        self.head = equinox.nn.Linear(WIDTH, CLASSES, key=keys[2])

    def __call__(self, x: jax.Array) -> jax.Array:
        """(3, H, W) -> (classes,)."""
        x = jax.nn.relu(self.norm1(self.conv1(x)))
        return self.head(jax.nn.relu(self.conv2(x)).mean((1, 2)))


class _Tied(equinox.Module):
    """Tokens, one head of attention, two linear layers, and the embedding once more as the head."""

    words: equinox.nn.Embedding
    norms: list[equinox.nn.LayerNorm]
    lines: list[equinox.nn.Linear]

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 6)
        self.words = equinox.nn.Embedding(WORDS, WIDTH, key=keys[0])
        self.norms = [equinox.nn.LayerNorm(WIDTH) for _ in range(2)]
        sizes = ((WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, HIDDEN), (HIDDEN, WIDTH))
        self.lines = [equinox.nn.Linear(*size, key=key) for size, key in zip(sizes, keys[1:], strict=True)]

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """(T,) -> (T, words)."""
        query, key, value, wide, narrow = (jax.vmap(line) for line in self.lines)
        x = jax.vmap(self.words)(tokens)
        y = jax.vmap(self.norms[0])(x)
        x = x + jax.nn.softmax(query(y) @ key(y).T / WIDTH**0.5) @ value(y)  # (T, T) x (T, d) -> (T, d)
        x = x + narrow(jax.nn.gelu(wide(jax.vmap(self.norms[1])(x))))
        return x @ self.words.weight.T


class _Recurrent(equinox.Module):
    """Tokens, an LSTM, a linear layer on its last state."""

    words: equinox.nn.Embedding
    cell: equinox.nn.LSTMCell
    head: equinox.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 3)
        self.words = equinox.nn.Embedding(WORDS, WIDTH, key=keys[0])
        self.cell = equinox.nn.LSTMCell(WIDTH, STATE, key=keys[1])
        self.head = equinox.nn.Linear(STATE, CLASSES, key=keys[2])

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """(T,) -> (classes,)."""
        x = jax.vmap(self.words)(tokens)
        start = jnp.zeros(STATE), jnp.zeros(STATE)
        (last, _), _ = jax.lax.scan(lambda state, given: (self.cell(given, state), None), start, x)
        return self.head(last)


def _build(network: str) -> Built:
    model = EquinoxModel({"conv": _Conv, "tied": _Tied, "lstm": _Recurrent}[network](jax.random.key(0)))
    inputs = IMAGE if network == "conv" else TOKENS.astype(np.int32)
    leaves = {
        jax.tree_util.keystr(path): np.array(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(equinox.filter(model.module, equinox.is_inexact_array))
    }
    # Biases of convolutions are stored as channels × 1 × 1.
    matrices = {name: value for name, value in leaves.items() if value.ndim > 1 and value.size > value.shape[0]}
    return Built(
        model,
        [inputs],
        lambda: np.asarray(jax.vmap(model.module)(inputs)),
        sum(value.size for value in leaves.values()),
        matrices,
        ".words.weight" if network == "tied" else "",
    )


def _plain(built: Built, path: Path) -> None:
    jax2onnx_export(jax.vmap(equinox.nn.inference_mode(built.model.module)), built, path)


def _ours(built: Built, path: Path) -> object:
    from onnx_ghn.exporters import equinox as exporter

    return exporter.export(built.model, path, built.inputs)


def _load(built: Built, path: Path) -> object:
    from onnx_ghn.exporters import equinox as exporter

    return exporter.load(built.model, path, built.inputs)


_EXPORTERS = {"equinox": Exporter(_build, _plain, _load), "equinox-ours": Exporter(_build, _ours, _load)}


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """The cells of equinox."""
    return measure_exporter(_EXPORTERS, row, network, folder)
