"""Flax models there and back: nnx and linen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from round_trip import check_initialize, check_round_trip, flattened_maps, run

nnx = pytest.importorskip("flax.nnx", reason="Flax is not installed: make test-exporters")
jax = pytest.importorskip("jax")

from flax import linen, serialization, traverse_util  # noqa: E402

from onnx_ghn.errors import OptionError  # noqa: E402
from onnx_ghn.exporters import flax as exporter  # noqa: E402
from onnx_ghn.exporters import jax_arrays  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(0).random((2, 8, 8, 3), dtype="float32")


class Block(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(width, width, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + nnx.relu(self.norm(self.conv(x)))


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.blocks = nnx.List([Block(8, rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.head = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = self.attention(self.norm(x.reshape(x.shape[0], -1, 8)))
        return self.head(self.drop(x.mean(1)))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = linen.Conv(8, (3, 3), use_bias=False)(x)
        x = linen.relu(linen.BatchNorm(use_running_average=not train)(x))
        x = linen.LayerNorm()(linen.Conv(8, (3, 3), feature_group_count=8)(x))
        x = linen.Dropout(0.2, deterministic=not train)(x)
        return linen.Dense(10)(x.mean((1, 2)))


def call(model: Any, x: np.ndarray) -> np.ndarray:
    if isinstance(model, exporter.LinenModel):
        return np.asarray(model.module.apply(model.variables, x))
    copy = nnx.clone(model)
    copy.eval()
    return np.asarray(copy(x))


def weights(model: Any) -> dict[str, np.ndarray]:
    tree = model.variables if isinstance(model, exporter.LinenModel) else nnx.to_pure_dict(nnx.state(model))
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {str(path): np.array(leaf) for path, leaf in flat if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating)}


def test_nnx_there_and_back(tmp_path: Path) -> None:
    model = check_round_trip(exporter, lambda seed: Net(nnx.Rngs(seed)), call, weights, X, X, tmp_path)
    assert not model.drop.deterministic  # its mode is as it was
    exporter.save_weights(model, tmp_path / "w.msgpack")
    restored = traverse_util.flatten_dict(serialization.msgpack_restore((tmp_path / "w.msgpack").read_bytes()))
    np.testing.assert_array_equal(restored["head", "kernel"], model.head.kernel[...])
    import orbax.checkpoint

    exporter.save_weights(model, tmp_path / "w.orbax")
    tree = traverse_util.flatten_dict(orbax.checkpoint.PyTreeCheckpointer().restore(tmp_path / "w.orbax"))
    by_text = {tuple(map(str, key)): value for key, value in restored.items()}  # as Orbax names the items of a list
    assert tree.keys() == by_text.keys()
    for key, value in tree.items():
        np.testing.assert_array_equal(value, by_text[key])


def test_saved_items_of_a_list_come_back(tmp_path: Path) -> None:
    """nnx knows them by number, and would know no such key if the file named them by text, as Orbax does."""

    class Listed(nnx.Module):
        def __init__(self, seed: int) -> None:
            rngs = nnx.Rngs(seed)
            self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)])

        def __call__(self, x: jax.Array) -> jax.Array:
            for layer in self.layers:
                x = layer(x)
            return x

    model, other = Listed(0), Listed(1)
    exporter.save_weights(model, tmp_path / "w.msgpack")
    nnx.update(other, serialization.msgpack_restore((tmp_path / "w.msgpack").read_bytes()))
    x = jax.numpy.ones((1, 3))
    np.testing.assert_array_equal(other(x), model(x))
    import orbax.checkpoint

    exporter.save_weights(model, tmp_path / "w.orbax")
    other = Listed(2)
    nnx.update(other, nnx.restore_int_paths(orbax.checkpoint.PyTreeCheckpointer().restore(tmp_path / "w.orbax")))
    np.testing.assert_array_equal(other(x), model(x))


def test_linen_there_and_back(tmp_path: Path) -> None:
    module = Linen()

    def make(seed: int) -> exporter.LinenModel:
        return exporter.LinenModel(module, module.init(jax.random.key(seed), X), {"train": False})

    check_round_trip(exporter, make, call, weights, X, X, tmp_path)


def test_any_batch(tmp_path: Path) -> None:
    from round_trip import run

    model = Net(nnx.Rngs(0))
    exporter.export(model, tmp_path / "m.onnx", ("batch", 8, 8, 3))
    np.testing.assert_allclose(run(tmp_path / "m.onnx", X[:1]), call(model, X[:1]), rtol=1e-3, atol=1e-5)


def test_other_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"neither an nnx\.Module"):
        exporter.export(object(), tmp_path / "m.onnx", X)


class Flat(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.max_pool(linen.relu(linen.Conv(12, (3, 3))(x)), window_shape=(2, 2), strides=(2, 2))
        return linen.Dense(10)(x.reshape((x.shape[0], -1)))


def test_a_flattened_map_is_known_for_one(tmp_path: Path) -> None:
    net = Flat()
    exporter.export(exporter.LinenModel(net, net.init(jax.random.key(0), X)), tmp_path / "m.onnx", X)
    assert flattened_maps(tmp_path / "m.onnx") == [(16, True)]


class Recurrent(nnx.Module):
    """An LSTM.

    Args:
        starts: whether the module gives the state that it begins with; Flax draws it otherwise, as zeros.
    """

    def __init__(self, rngs: nnx.Rngs, *, starts: bool) -> None:
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=rngs))
        self.head = nnx.Linear(4, 2, rngs=rngs)
        self.starts = starts

    def __call__(self, x: jax.Array) -> jax.Array:
        start = jax.numpy.zeros((x.shape[0], 4))
        return self.head(self.rnn(x, initial_carry=(start, start) if self.starts else None)[:, -1])


@pytest.mark.parametrize("starts", [True, False])
def test_a_module_that_scans_goes_there_and_back(starts: bool, tmp_path: Path) -> None:
    steps = X[:, 0]  # (2, 8, 3)

    def make(seed: int) -> Recurrent:
        return Recurrent(nnx.Rngs(seed), starts=starts)

    check_round_trip(exporter, make, call, weights, steps, steps, tmp_path)


class Layer(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return x + linen.relu(linen.Dense(4)(linen.LayerNorm()(x))), None


class Scans(linen.Module):
    """Steps through an LSTM, and then through three layers whose weights are stacked."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.RNN(linen.LSTMCell(4))(x)[:, -1]
        stack = linen.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return linen.Dense(2)(stack()(x, None)[0])


@pytest.mark.parametrize("free", [True, False])
def test_a_linen_module_that_scans_goes_there_and_back(free: bool, tmp_path: Path) -> None:
    steps = X[:, 0]

    def make(seed: int) -> exporter.LinenModel:
        return exporter.LinenModel(Scans(), Scans().init(jax.random.key(seed), steps))

    check_round_trip(exporter, make, call, weights, steps, ("batch", 8, 3) if free else steps, tmp_path)


def test_arrays_that_no_variable_holds_go_there_and_back(tmp_path: Path) -> None:
    """The scales of nnx.WeightNorm: arrays in a dict, which no optimiser of nnx.Param trains."""

    class Normed(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.layer = nnx.WeightNorm(nnx.Linear(3, 4, rngs=rngs), rngs=rngs)
            self.gain = nnx.data(jax.numpy.ones(4))

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.layer(x) * self.gain

    model, other, x = Normed(nnx.Rngs(0)), Normed(nnx.Rngs(1)), X[:, 0, 0]
    (path,) = model.layer.scales
    model.layer.scales[path], model.gain = jax.numpy.arange(1.0, 5), jax.numpy.arange(2.0, 6)
    assert exporter.export(model, tmp_path / "m.onnx", x).complete
    assert exporter.load(other, tmp_path / "m.onnx").complete
    np.testing.assert_array_equal(other.layer.scales[path], [1, 2, 3, 4])
    np.testing.assert_array_equal(other.gain, [2, 3, 4, 5])
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), other(x), rtol=1e-4, atol=1e-6)


def test_initialize_nnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_initialize(exporter, lambda seed: Net(nnx.Rngs(seed)), weights, X, tmp_path, monkeypatch)


def test_initialize_linen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(seed: int) -> exporter.LinenModel:
        return exporter.LinenModel(Linen(), Linen().init(jax.random.key(seed), X), {"train": False})

    check_initialize(exporter, make, weights, X, tmp_path, monkeypatch)


def test_new_variables_are_given_and_the_old_ones_stay() -> None:
    variables = Linen().init(jax.random.key(0), X)
    kernel = np.array(variables["params"]["Conv_0"]["kernel"])
    filled, told = exporter.initialized(Linen(), variables, X, policy="all", apply_options={"train": False})
    assert told.coverage.share("predicted") > 0.99
    np.testing.assert_array_equal(variables["params"]["Conv_0"]["kernel"], kernel)
    assert not np.array_equal(filled["params"]["Conv_0"]["kernel"], kernel)
    assert jax.tree.structure(filled) == jax.tree.structure(variables)
    assert Linen().apply(filled, X).shape == (2, 10)


class TwoConvolutions(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first, self.second = (nnx.Conv(width, 6, (3, 3), rngs=rngs) for width in (3, 6))
        self.norm = nnx.BatchNorm(6, rngs=rngs)  # with it, jax2onnx 0.17.1 leaves the shapes of channels last
        self.head = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(nnx.relu(self.second(nnx.relu(self.norm(self.first(x))))).mean((1, 2)))


@pytest.mark.parametrize("example", [X, ("batch", 8, 8, 3)], ids=["array", "shape"])
def test_shapes_of_values_on_the_way_are_right(tmp_path: Path, example: Any) -> None:
    import onnx
    from round_trip import predict_file

    model = TwoConvolutions(nnx.Rngs(0))
    exporter.export(model, tmp_path / "m.onnx", example)
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    proto = onnx.load(tmp_path / "m.onnx")
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in proto.graph.value_info}
    relus = [shapes[node.output[0]] for node in proto.graph.node if node.op_type in ("Relu", "Max")]
    assert relus[0][1:] == [6, 8, 8]  # between two convolutions of channels first
    np.testing.assert_allclose(run(tmp_path / "m.onnx", X), call(model, X), rtol=1e-3, atol=1e-5)
    predict_file(tmp_path / "m.onnx", tmp_path / "p.onnx")
    onnx.checker.check_model(tmp_path / "p.onnx", full_check=True)


def test_shapes_are_inferred_once_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the file that is kept: weights are located in further ones, whose shapes on the way nobody reads."""

    class Twice(nnx.Module):
        """Adds two weights that nothing else reads, so that the file holds a value that was computed from them."""

        def __init__(self, rngs: nnx.Rngs) -> None:
            self.first, self.second = nnx.Linear(3, 4, rngs=rngs), nnx.Param(jax.numpy.ones(4))
            self.unread = nnx.Param(jax.numpy.ones(2))

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.first(x) + self.second[...]

    inferred, converted = [], []
    infer, convert = jax_arrays.mend_file, jax_arrays.convert
    monkeypatch.setattr(jax_arrays, "mend_file", lambda path: (inferred.append(path), infer(path)))
    monkeypatch.setattr(jax_arrays, "convert", lambda *given: (converted.append(given), convert(*given))[1])
    report = exporter.export(Twice(nnx.Rngs(0)), tmp_path / "m.onnx", (1, 3))
    assert [note.name for note in report.unmatched] == ["unread"]
    assert len(converted) >= 2
    assert len(inferred) == 1


class Mixed(nnx.Module):
    """Weights of float32 that layers use in another type, as on accelerators."""

    def __init__(self, dtype: Any) -> None:
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 8, (3, 3), dtype=dtype, rngs=rngs)
        self.norm = nnx.BatchNorm(8, dtype=dtype, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, dtype=dtype, decode=False, rngs=rngs)
        self.head = nnx.Linear(8, 5, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.conv(x))).reshape(2, 64, 8)
        return self.head(self.attention(x).mean(1))


class MixedLinen(linen.Module):
    """The same in linen: layers that are made in a call, and one of `setup`."""

    dtype: Any = None

    def setup(self) -> None:
        self.head = linen.Dense(5, dtype=self.dtype)

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.Conv(8, (3, 3), dtype=self.dtype)(jax.numpy.asarray(x, self.dtype))
        return self.head(linen.LayerNorm(dtype=self.dtype)(x).mean((1, 2)))


@pytest.mark.parametrize("dtype", [jax.numpy.bfloat16, jax.numpy.float16])
def test_linen_in_half_precision_is_a_file_in_float32(dtype: Any, tmp_path: Path) -> None:
    module = MixedLinen(dtype)
    variables = module.init(jax.random.key(0), X)
    model = exporter.LinenModel(module, variables)
    assert exporter.export(model, tmp_path / "m.onnx", X).complete
    expected = MixedLinen().apply(variables, X)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", X), np.asarray(expected), rtol=1e-4, atol=1e-5)
    assert module.apply(variables, X).dtype == dtype
    exporter.initialize(model, X, policy="all")
    pairs = zip(jax.tree.leaves(variables), jax.tree.leaves(model.variables), strict=True)
    assert not any(np.array_equal(old, new) for old, new in pairs)


@pytest.mark.parametrize("dtype", [jax.numpy.bfloat16, jax.numpy.float16])
def test_layers_that_compute_in_half_precision_are_a_file_in_float32(dtype: Any, tmp_path: Path) -> None:
    model, same = Mixed(dtype), Mixed(None)
    assert exporter.export(model, tmp_path / "m.onnx", X).complete
    same.eval()
    np.testing.assert_allclose(run(tmp_path / "m.onnx", X), np.asarray(same(X)), rtol=1e-4, atol=1e-5)
    before = [np.array(leaf) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
    exporter.initialize(model, X, policy="all")
    after = [np.array(leaf) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
    changed = [not np.array_equal(old, new) for old, new in zip(before, after, strict=True)]
    assert all(changed), changed
    assert model.conv.dtype is dtype
