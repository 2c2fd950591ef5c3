"""Equinox models there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from round_trip import check_initialize, check_round_trip

equinox = pytest.importorskip("equinox", reason="Equinox is not installed: make test-exporters")
jax = pytest.importorskip("jax")

from onnx_ghn.exporters import equinox as exporter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(0).random((2, 3, 8, 8), dtype="float32")


class Net(equinox.Module):
    conv: equinox.nn.Conv2d
    norm: equinox.nn.LayerNorm
    attention: equinox.nn.MultiheadAttention
    drop: equinox.nn.Dropout
    head: equinox.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 3)
        self.conv = equinox.nn.Conv2d(3, 8, 3, key=keys[0])
        self.norm = equinox.nn.LayerNorm(8)
        self.attention = equinox.nn.MultiheadAttention(2, 8, key=keys[1])
        self.drop = equinox.nn.Dropout(0.3)
        self.head = equinox.nn.Linear(8, 10, key=keys[2])

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.conv(x)).reshape(8, -1).T
        x = jax.vmap(self.norm)(x)
        return self.head(self.drop(self.attention(x, x, x).mean(0)))


def make(seed: int) -> exporter.EquinoxModel:
    return exporter.EquinoxModel(Net(jax.random.key(seed)))


def call(model: exporter.EquinoxModel, x: np.ndarray) -> np.ndarray:
    return np.asarray(jax.vmap(equinox.nn.inference_mode(model.module))(x))


def weights(model: exporter.EquinoxModel) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(equinox.filter(model.module, equinox.is_inexact_array))
    return {str(path): np.array(leaf) for path, leaf in leaves}


def test_there_and_back(tmp_path: Path) -> None:
    model = check_round_trip(exporter, make, call, weights, X, X, tmp_path)
    exporter.save_weights(model, tmp_path / "w.eqx")
    restored = equinox.tree_deserialise_leaves(tmp_path / "w.eqx", make(5).module)
    np.testing.assert_array_equal(restored.head.weight, model.module.head.weight)


def test_initialize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_initialize(exporter, make, weights, X, tmp_path, monkeypatch)


def test_a_new_module_is_given_and_the_old_one_stays() -> None:
    module = make(0).module
    kernel = np.array(module.conv.weight)
    filled, told = exporter.initialized(module, ("batch", 3, 8, 8), policy="all", calibrate="none")
    assert told.coverage.share("predicted") > 0.99
    np.testing.assert_array_equal(module.conv.weight, kernel)
    assert not np.array_equal(filled.conv.weight, kernel)
    np.testing.assert_allclose(call(exporter.EquinoxModel(filled), X).shape, (2, 10))
