"""haiku through jax2onnx. onnx-ghn has no exporter for it."""

from __future__ import annotations

from pathlib import Path

import haiku
import jax
import numpy as np

from compatibility_runs.built import CLASSES, HIDDEN, IMAGE_LAST, STATE, TOKENS, WIDTH, WORDS, Built, Exporter
from compatibility_runs.cells import Cell
from compatibility_runs.exporting import measure_exporter
from compatibility_runs.from_flax import as_outputs_inputs, jax2onnx_export
from compatibility_runs.rows import Row

__all__ = ["measure"]


def _norm() -> haiku.BatchNorm:
    return haiku.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)


def _conv(x: jax.Array, training: bool) -> jax.Array:
    """(B, H, W, 3) -> (B, classes)."""
    x = jax.nn.relu(_norm()(haiku.Conv2D(8, 3, with_bias=False)(x), training))
    x = jax.nn.relu(_norm()(haiku.Conv2D(WIDTH, 3, 2)(x), training))
    return haiku.Linear(CLASSES)(x.mean((1, 2)))


def _tied(tokens: jax.Array, training: bool) -> jax.Array:
    """(B, T) -> (B, T, words)."""
    words = haiku.Embed(WORDS, WIDTH, name="embed")
    x = words(tokens)
    y = haiku.LayerNorm(-1, True, True)(x)
    query, key, value = (haiku.Linear(WIDTH)(y) for _ in range(3))
    scores = query @ key.swapaxes(1, 2) / WIDTH**0.5  # (B, T, d) x (B, d, T) -> (B, T, T)
    x = x + jax.nn.softmax(scores) @ value
    x = x + haiku.Linear(WIDTH)(jax.nn.gelu(haiku.Linear(HIDDEN)(haiku.LayerNorm(-1, True, True)(x))))
    return x @ words.embeddings.T


def _lstm(tokens: jax.Array, training: bool) -> jax.Array:
    """(B, T) -> (B, classes)."""
    cell = haiku.LSTM(STATE)
    x = haiku.Embed(WORDS, WIDTH, name="embed")(tokens).swapaxes(0, 1)
    states, _ = haiku.dynamic_unroll(cell, x, cell.initial_state(tokens.shape[0]))
    return haiku.Linear(CLASSES)(states[-1])


def _build(network: str) -> Built:
    function = haiku.without_apply_rng(
        haiku.transform_with_state({"conv": _conv, "tied": _tied, "lstm": _lstm}[network])
    )
    inputs = IMAGE_LAST if network == "conv" else TOKENS.astype(np.int32)
    parameters, state = function.init(jax.random.key(0), inputs, True)
    flat = {f"{module}/{name}": np.array(v) for module, values in parameters.items() for name, v in values.items()}

    def apply(x: jax.Array) -> jax.Array:
        return function.apply(parameters, state, x, False)[0]

    return Built(
        apply,
        [inputs],
        lambda: np.asarray(apply(inputs)),
        sum(value.size for value in flat.values()),
        {name: as_outputs_inputs(name, value) for name, value in flat.items() if name.endswith(("/w", "/embeddings"))},
        next(name for name in flat if "embed" in name) if network == "tied" else "",
    )


_EXPORTERS = {"haiku": Exporter(_build, lambda built, path: jax2onnx_export(built.model, built, path))}


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """The cells of haiku."""
    return measure_exporter(_EXPORTERS, row, network, folder)
