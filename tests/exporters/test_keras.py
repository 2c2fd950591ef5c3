"""Keras models there and back, on the backend that KERAS_BACKEND names, or on the first that is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from keras_backend import choose_keras_backend
from round_trip import check_initialize, check_round_trip, flattened_maps, run

choose_keras_backend("tensorflow", "jax", "torch")
keras = pytest.importorskip("keras", reason="Keras is not installed: make test-exporters")

from onnx_ghn.errors import OptionError  # noqa: E402
from onnx_ghn.exporters import keras as exporter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(0).random((1, 32, 32, 3), dtype="float32")


def make(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Conv2D(8, 3, groups=2, padding="same", activation="gelu")(x)
    x = layers.LayerNormalization()(layers.SeparableConv2D(12, 3)(x))
    x = layers.GroupNormalization(2)(layers.Conv2DTranspose(6, 2)(x))
    pooled = layers.GlobalAveragePooling2D()(x)
    x = layers.Reshape((-1, 6))(layers.AveragePooling2D(8)(x))
    x = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.LSTM(5)(x) if keras.backend.backend() == "tensorflow" else layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(0.2)(layers.Concatenate()([x, pooled]))
    x = layers.BatchNormalization()(layers.Dense(16)(x))
    return keras.Model(image, layers.Dense(10)(x))


def call(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(model(x, training=False)))


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    floats = [weight for weight in model.weights if "float" in str(weight.dtype)]
    return {str(i): np.array(keras.ops.convert_to_numpy(weight)) for i, weight in enumerate(floats)}


def test_there_and_back(tmp_path: Path) -> None:
    trained = check_round_trip(exporter, make, call, weights, X, None, tmp_path)
    exporter.save_weights(trained, tmp_path / "w.weights.h5")
    fresh = make(3)
    fresh.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_allclose(call(fresh, X), run(tmp_path / "init.onnx", X), rtol=1e-3, atol=1e-5)


def test_frozen_layers_stay(tmp_path: Path) -> None:
    from onnx_ghn.onnx_io import read_model, stored_tensors
    from onnx_ghn.onnx_io.marks import frozen_tensors

    model = make(0)
    model.layers[1].trainable = False
    exporter.export(model, tmp_path / "m.onnx")
    frozen = frozen_tensors(read_model(tmp_path / "m.onnx"))
    kernel = keras.ops.convert_to_numpy(model.layers[1].kernel)
    stored = stored_tensors(read_model(tmp_path / "m.onnx"))
    same = [n for n in frozen if np.array_equal(np.sort(stored[n].numpy(), axis=None), np.sort(kernel, axis=None))]
    assert len(same) == 1
    assert frozen[same[0]] is None  # all of it


def test_other_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no keras\.Model"):
        exporter.export(object(), tmp_path / "m.onnx")


def test_a_model_that_was_never_called(tmp_path: Path) -> None:
    told = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    report = exporter.export(told, tmp_path / "told.onnx")
    assert (report.n_elements, report.share) == (15, 1.0)
    assert f"{keras.backend.backend()}, " in report.exporter
    assert report.exporter[-1].isdigit()
    untold = keras.Sequential([keras.layers.Dense(3)])
    with pytest.raises(OptionError, match="give `example_inputs`"):
        exporter.export(untold, tmp_path / "untold.onnx")
    exporter.export(untold, tmp_path / "untold.onnx", np.zeros((1, 4), "float32"))


def test_a_flattened_map_is_known_for_one(tmp_path: Path) -> None:
    layers = keras.layers
    net = [keras.Input((16, 16, 3)), layers.Conv2D(12, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten()]
    model = keras.Sequential([*net, layers.Dense(8, activation="relu"), layers.Dense(10)])
    exporter.export(model, tmp_path / "m.onnx")
    assert flattened_maps(tmp_path / "m.onnx") == [(49, True)]


def normalised() -> keras.Model:
    """What EfficientNet begins with: a scaling, and a mean and a variance that nobody trains."""
    layers = keras.layers
    x = image = keras.Input((8, 8, 3))
    x = layers.Normalization(axis=-1)(layers.Rescaling(1 / 255)(x))
    x = layers.Conv2D(4, 3)(x)
    return keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


def test_constants_of_input_normalisation_are_named_as_such(tmp_path: Path) -> None:
    nested = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Normalization(), keras.layers.Conv2D(4, 3)])
    model = keras.Sequential([keras.Input((8, 8, 3)), nested, keras.layers.BatchNormalization()])
    norm = nested.layers[0]
    assert exporter.LiveKeras(model).constants() == {w.path for w in norm.weights if "float" in str(w.dtype)}
    told = exporter.export(model, tmp_path / "m.onnx").unmatched
    loaded = exporter.load(model, tmp_path / "m.onnx").unmatched
    if keras.backend.backend() == "tensorflow":  # which folds them
        assert len(told) == len(loaded) == 2
    assert all("a constant of the model, which no training changes" in str(note) for note in (*told, *loaded))


def test_a_normalised_input_is_the_only_one(tmp_path: Path) -> None:
    model = normalised()
    exporter.export(model, tmp_path / "m.onnx")
    x = X[:, :8, :8] * 255
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), call(model, x), rtol=1e-4, atol=1e-5)
    assert len(onnx.load(tmp_path / "m.onnx").graph.input) == 1


@pytest.mark.parametrize("invert", [False, True])
def test_a_mean_and_a_variance_that_were_adapted_are_in_the_file(invert: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    norm = keras.layers.Normalization(invert=invert)
    norm.adapt(rng.normal(3, 2, (50, 6)).astype("float32"))
    layers = [keras.layers.Dense(6), norm, keras.layers.Dense(3)] if invert else [norm, keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    exporter.export(model, tmp_path / "m.onnx")
    x = rng.normal(3, 2, (1, 6)).astype("float32")
    assert len(onnx.load(tmp_path / "m.onnx").graph.input) == 1
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), call(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 5)])
def test_a_batch_norm_of_channels_that_come_first_stays_whole(shape: tuple[int, ...], tmp_path: Path) -> None:
    layers = keras.layers
    model = keras.Sequential([keras.Input(shape), layers.BatchNormalization(axis=1), layers.Flatten(), layers.Dense(3)])
    rng = np.random.default_rng(0)
    model.layers[0].set_weights([rng.uniform(0.5, 2, 6).astype("float32") for _ in range(4)])
    assert exporter.export(model, tmp_path / "m.onnx").complete
    x = rng.random((1, *shape), dtype="float32")
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), call(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="torch's first exporter knows no memory formats of volumes"
)
def test_a_batch_norm_of_volumes_stays_whole(tmp_path: Path) -> None:
    layers = keras.layers
    given = keras.Input((6, 5, 4, 2))
    net = layers.Conv3D(3, 3)(given)
    model = keras.Model(given, layers.GlobalAveragePooling3D()(layers.ReLU()(layers.BatchNormalization()(net))))
    norm, rng = model.layers[2], np.random.default_rng(0)
    norm.set_weights([rng.uniform(0.5, 2, 3).astype("float32") for _ in range(4)])
    assert exporter.export(model, tmp_path / "m.onnx").complete
    x = rng.random((1, 6, 5, 4, 2), dtype="float32")
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), call(model, x), rtol=1e-4, atol=1e-5)


def recurrent(kind: str, **options: object) -> keras.Model:
    steps = keras.Input((7, 3))
    return keras.Model(steps, keras.layers.Dense(2)(getattr(keras.layers, kind)(5, **options)(steps)))


def grouped(groups: int) -> keras.Model:
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.GroupNormalization(groups)(layers.Conv2D(8, 3)(image))
    return keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.ReLU()(x))))


#: Models that Keras and the file count differently unless each tensor is read as what it is.
COUNTED = {
    "normalised": normalised,
    "lstm": lambda: recurrent("LSTM"),
    "lstm of sequences": lambda: recurrent("LSTM", return_sequences=True),
    "gru": lambda: recurrent("GRU"),
    "gru before": lambda: recurrent("GRU", reset_after=False),
    "simple": lambda: recurrent("SimpleRNN"),
    "two groups": lambda: grouped(2),
    "four groups": lambda: grouped(4),
    "a group for each channel": lambda: grouped(-1),
}


@pytest.mark.parametrize("kind", COUNTED)
def test_trainable_elements_are_those_of_keras(kind: str, tmp_path: Path) -> None:
    from onnx_ghn.inspection import inspect_model

    model = COUNTED[kind]()
    exporter.export(model, tmp_path / "m.onnx")
    coverage = inspect_model(tmp_path / "m.onnx", policy="all").coverage
    assert coverage.n_trainable == sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    if "group" in kind or kind.startswith("gru"):
        assert coverage.share("predicted") == 1


def test_initialize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def renumbered(seed: int) -> keras.Model:
        keras.backend.clear_session()  # or names, from which noise is drawn, go on counting: conv2d_1
        return make(seed)

    check_initialize(exporter, renumbered, weights, None, tmp_path, monkeypatch)


def test_named_inputs(tmp_path: Path) -> None:
    """In an order of their own, which is not that of their names."""
    tokens, mask = keras.Input((8,), dtype="int32", name="tokens"), keras.Input((8,), name="mask")
    outputs = keras.layers.Dense(4)(keras.layers.Embedding(20, 16)(tokens) * mask[:, :, None])
    model = keras.Model({"tokens": tokens, "mask": mask}, outputs)
    report = exporter.export(model, tmp_path / "m.onnx")
    assert report.complete, report.unmatched
    rng = np.random.default_rng(0)
    given = {"tokens": rng.integers(0, 20, (1, 8)), "mask": rng.integers(0, 2, (1, 8)).astype(np.float32)}
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    kinds = {"tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(float)": np.float32}
    inputs = {each.name: given[each.name].astype(kinds[each.type]) for each in session.get_inputs()}
    expected = keras.ops.convert_to_numpy(model({"tokens": given["tokens"].astype(np.int32), "mask": given["mask"]}))
    np.testing.assert_allclose(session.run(None, inputs)[0], expected, atol=1e-6)


def test_a_model_that_counts_is_as_before(tmp_path: Path) -> None:
    """A layer may count its calls, or average what it sees, in inference mode, too."""

    class Counting(keras.layers.Layer):
        def build(self, shape: tuple[int | None, ...]) -> None:
            del shape
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")
            self.whole = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False, name="whole")

        def call(self, x: object) -> object:
            self.calls.assign(self.calls + 1)
            self.whole.assign(self.whole + 1)
            return x * keras.ops.cast(self.whole > 0, "float32")

    counting = Counting()
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.GlobalAveragePooling2D()(counting(keras.layers.Conv2D(8, 3)(inputs)))
    model = keras.Model(inputs, outputs)
    exporter.initialize(model)
    exporter.export(model, tmp_path / "m.onnx")
    assert (float(counting.calls), int(counting.whole)) == (0, 0)
    model(np.zeros((1, 8, 8, 3), np.float32))
    assert (float(counting.calls), int(counting.whole)) == (1, 1)


def test_a_shape_builds_a_model_without_weights() -> None:
    model = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(4)])
    told = exporter.initialize(model, (None, 12), policy="all")
    assert told.coverage.count("predicted") == 4
    assert model.layers[0].kernel.shape == (12, 8)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_model_in_mixed_precision_is_a_file_in_float32(policy: str, tmp_path: Path) -> None:
    """onnxruntime has no convolution in bfloat16. Its weights are of float32 already, and it computes as before."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = make(0)
    finally:
        keras.config.set_dtype_policy(before)
    same = make(1)
    same.set_weights(model.get_weights())
    x = np.random.default_rng(0).random((1, *model.input_shape[1:]), np.float32)
    exporter.export(model, tmp_path / "m.onnx")
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), call(same, x), rtol=1e-4, atol=1e-5)
    exporter.initialize(model, policy="all")
    assert {layer.dtype_policy.name for layer in model.layers} == {policy}
    assert {layer.variable_dtype for layer in model.layers} == {"float32"}
