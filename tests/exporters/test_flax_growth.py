"""Flax models that grow from trained ones, and what poolings of Flax become."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from round_trip import run

nnx = pytest.importorskip("flax.nnx", reason="Flax is not installed: make test-exporters")
jax = pytest.importorskip("jax")

from flax import linen  # noqa: E402

from onnx_ghn import predict  # noqa: E402
from onnx_ghn.exporters import flax as exporter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(5).standard_normal((2, 16, 16, 3)).astype(np.float32)


class Convolutions(nnx.Module):
    def __init__(self, width: int, depth: int, rngs: nnx.Rngs) -> None:
        def convolution(n_in: int, size: int, groups: int = 1) -> nnx.Conv:
            return nnx.Conv(n_in, width, (size, size), feature_group_count=groups, use_bias=size == 1, rngs=rngs)

        norm = partial(nnx.BatchNorm, width, use_running_average=True, rngs=rngs)
        self.stem, self.norm = convolution(3, 3), norm()
        self.spatial = nnx.List([convolution(width, 3, width) for _ in range(depth)])
        self.norms = nnx.List([norm() for _ in range(depth)])
        self.mixing = nnx.List([convolution(width, 1) for _ in range(depth)])
        self.head = nnx.Linear(width, 5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.max_pool(nnx.relu(self.norm(self.stem(x))), (2, 2), (2, 2))
        for spatial, norm, mixing in zip(self.spatial, self.norms, self.mixing, strict=True):
            x = x + mixing(nnx.gelu(norm(spatial(x))))
        return self.head(x.mean((1, 2)))


class Transformer(nnx.Module):
    def __init__(self, width: int, heads: int, depth: int, rngs: nnx.Rngs) -> None:
        self.patch = nnx.Conv(3, width, (4, 4), strides=(4, 4), rngs=rngs)
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, 16, width)))
        norms = [nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(depth)]) for _ in range(2)]
        self.before_attention, self.before_mixing = norms
        self.attention = nnx.List(
            [
                nnx.MultiHeadAttention(heads, width, qkv_features=8 * heads, decode=False, rngs=rngs)
                for _ in range(depth)
            ]
        )
        self.wide = nnx.List([nnx.Linear(width, 4 * width, rngs=rngs) for _ in range(depth)])
        self.narrow = nnx.List([nnx.Linear(4 * width, width, rngs=rngs) for _ in range(depth)])
        self.norm, self.head = nnx.LayerNorm(width, rngs=rngs), nnx.Linear(width, 5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.patch(x)
        x = x.reshape(x.shape[0], 16, -1) + self.positions[...]
        for i in range(len(self.wide)):
            x = x + self.attention[i](self.before_attention[i](x))
            x = x + self.narrow[i](nnx.gelu(self.wide[i](self.before_mixing[i](x))))
        return self.head(self.norm(x).mean(1))


class Normed(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(3, width, (3, 3), rngs=rngs)
        self.group, self.root = nnx.GroupNorm(width, num_groups=width // 4, rngs=rngs), nnx.RMSNorm(width, rngs=rngs)
        self.wide, self.head = nnx.Linear(width, 2 * width, rngs=rngs), nnx.Linear(2 * width, 5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.silu(self.group(self.conv(x))).mean((1, 2))
        return self.head(nnx.relu(self.wide(self.root(x))))


class Recurrent(nnx.Module):
    """Rows of the image as steps, which jax2onnx writes as a loop."""

    def __init__(self, width: int, cell: type[nnx.RNNCellBase], rngs: nnx.Rngs) -> None:
        self.both = nnx.Bidirectional(nnx.RNN(cell(48, width, rngs=rngs)), nnx.RNN(cell(48, width, rngs=rngs)))
        self.after = nnx.RNN(cell(2 * width, width, rngs=rngs))
        self.head = nnx.Linear(width, 5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.after(self.both(x.reshape(x.shape[0], 16, 48)))[:, -1])


class Block(nnx.Module):
    def __init__(self, width: int, heads: int, rngs: nnx.Rngs) -> None:
        self.first, self.second = nnx.LayerNorm(width, rngs=rngs), nnx.RMSNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, width, qkv_features=8 * heads, decode=False, rngs=rngs)
        self.wide, self.narrow = nnx.Linear(width, 2 * width, rngs=rngs), nnx.Linear(2 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.first(x))
        return x + self.narrow(nnx.gelu(self.wide(self.second(x))))


class Scanned(nnx.Module):
    """Blocks whose weights are stacked, and of which a loop takes one after the other."""

    def __init__(self, width: int, heads: int, depth: int, rngs: nnx.Rngs) -> None:
        self.patch = nnx.Conv(3, width, (4, 4), strides=(4, 4), rngs=rngs)
        self.blocks = nnx.vmap(partial(Block, width, heads))(rngs.fork(split=depth))
        self.head = nnx.Linear(width, 5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.patch(x)
        x = x.reshape(x.shape[0], 16, -1)
        x = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.blocks)
        return self.head(x.mean(1))


Make = Callable[[nnx.Rngs], nnx.Module]
PAIRS: dict[str, tuple[Make, Make]] = {
    "convolutions, wider": (partial(Convolutions, 16, 2), partial(Convolutions, 8, 2)),
    "convolutions, deeper": (partial(Convolutions, 8, 3), partial(Convolutions, 8, 2)),
    "transformer, wider and deeper": (partial(Transformer, 64, 8, 3), partial(Transformer, 32, 4, 2)),
    "LSTM": (partial(Recurrent, 24, nnx.LSTMCell), partial(Recurrent, 16, nnx.LSTMCell)),
    "GRU": (partial(Recurrent, 32, nnx.GRUCell), partial(Recurrent, 16, nnx.GRUCell)),
    "scanned transformer, wider and deeper": (partial(Scanned, 64, 8, 5), partial(Scanned, 32, 4, 3)),
    "group norm and root mean square norm": (partial(Normed, 16), partial(Normed, 8)),
}


def trained(model: nnx.Module) -> nnx.Module:
    """With norms, biases and statistics that are those of no fresh model."""
    draw = np.random.default_rng(0)
    for path, variable in nnx.iter_graph(model):
        value = variable.get_value() if isinstance(variable, nnx.Variable) else None
        is_vector = isinstance(value, jax.Array) and (value.ndim == 1 or (value.ndim == 2 and path[-1] != "kernel"))
        if is_vector and value.dtype == np.float32:
            spread = draw.uniform(0.7, 1.3, value.shape)
            values = spread if path[-1] in ("scale", "var") else draw.normal(0, 0.1, value.shape)
            variable.set_value(jax.numpy.asarray(values, np.float32))
    return model


@pytest.mark.parametrize("case", PAIRS)
def test_outputs_stay(case: str, tmp_path: Path) -> None:
    make, make_donor = PAIRS[case]
    donor, recipient = trained(make_donor(nnx.Rngs(0))), make(nnx.Rngs(1))
    for name, model in (("donor", donor), ("recipient", recipient)):
        exporter.export(model, tmp_path / f"{name}.onnx", ("batch", 16, 16, 3))
    prediction = predict(tmp_path / "recipient.onnx", tmp_path / "init.onnx", donors=[tmp_path / "donor.onnx"])
    assert any("are kept, as far as floating point goes" in note for note in prediction.coverage.notes)
    expected = np.asarray(donor(X))
    np.testing.assert_allclose(run(tmp_path / "init.onnx", X), expected, atol=1e-4 * np.abs(expected).max())
    exporter.load(recipient, tmp_path / "init.onnx")
    np.testing.assert_allclose(np.asarray(recipient(X)), expected, atol=1e-4 * np.abs(expected).max())


class Pooled(nnx.Module):
    def __init__(self, pool: Callable[[jax.Array], jax.Array], rngs: nnx.Rngs) -> None:
        self.linear, self.pool = nnx.Linear(3, 4, rngs=rngs), pool

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.pool(self.linear(x))


POOLS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "windows by position": lambda x: nnx.max_pool(x, (2, 2), (2, 2)),
    "padding by position": lambda x: nnx.avg_pool(x, (3, 3), (2, 2), "SAME"),
    "linen, by keyword": lambda x: linen.max_pool(x, window_shape=(2, 2), strides=(2, 2)),
    "taken before the export": partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2)),
    "JAX's own": lambda x: jax.lax.reduce_window(x, -jax.numpy.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
}


@pytest.mark.parametrize("case", POOLS)
def test_poolings_run_in_onnxruntime(case: str, tmp_path: Path) -> None:
    model = Pooled(POOLS[case], nnx.Rngs(0))
    before = (nnx.max_pool, linen.max_pool, nnx.avg_pool)
    exporter.export(model, tmp_path / "m.onnx", ("batch", 16, 16, 3))
    assert (nnx.max_pool, linen.max_pool, nnx.avg_pool) == before
    np.testing.assert_allclose(run(tmp_path / "m.onnx", X), np.asarray(model(X)), rtol=1e-4, atol=1e-5)
