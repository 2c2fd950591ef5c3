"""Keras 3 on TensorFlow, JAX or torch: Keras's own `Model.export`, changed so that batch norms stay whole."""

from __future__ import annotations

import contextlib
import importlib.metadata
import threading
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np

from onnx_ghn.errors import OptionError
from onnx_ghn.exporters.bridge import Bridge, check_options, converting, is_shape
from onnx_ghn.exporters.jax_arrays import mend_file
from onnx_ghn.exporters.live import LiveModel
from onnx_ghn.exporters.output import quiet
from onnx_ghn.exporters.roundtrip import unique_name
from onnx_ghn.exporters.tensorflow import as_written
from onnx_ghn.exporters.weight_map import Array
from onnx_ghn.installing import require

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    import torch

__all__ = ["KerasExportOptions", "LiveKeras", "export", "initialize", "load", "save_weights"]

_patching = threading.Lock()


class KerasExportOptions(TypedDict, total=False):
    """Options of `keras.Model.export` for ONNX."""

    input_signature: Sequence[object]
    opset_version: int


class LiveKeras(LiveModel):
    """Adapts a keras.Model to `roundtrip.LiveModel`.

    Args:
        model: the model.
        example_inputs: inputs to call the model on, or a shape (None for a free axis), or a list of shapes. Only a
            model that was never called, and so has no weights yet, needs them.
        options: options of `keras.Model.export`.
    """

    framework = "keras"
    numbered = True
    _weights: dict[str, keras.Variable]

    def __init__(
        self, model: keras.Model, example_inputs: object = None, **options: Unpack[KerasExportOptions]
    ) -> None:
        check_options(options, KerasExportOptions.__annotations__)
        keras = require("keras", "keras")
        if not isinstance(model, keras.Model):
            raise OptionError(f"a {type(model).__name__} is no keras.Model")
        self._model = model
        self._options = options
        with _variables_kept(model):
            if example_inputs is not None:
                model(_given(example_inputs), training=False)
            elif not getattr(model, "_called", True):
                model(_zeros(model), training=False)
        self._backend = keras.backend.backend()
        if self._backend not in ("tensorflow", "jax", "torch"):
            raise OptionError(f"Keras on {self._backend} exports no ONNX; use KERAS_BACKEND=tensorflow, jax or torch")
        converter = {"tensorflow": "tf2onnx", "jax": "jax2onnx", "torch": "torch"}[self._backend]
        require(converter, "keras")
        version = importlib.metadata.version(converter)
        self.exporter = f"keras {keras.__version__} on {self._backend}, {converter} {version}"
        self._weights = {}
        for weight in model.weights:
            if "float" in str(weight.dtype):  # leaves out the states of seeds
                self._weights[unique_name(weight.path, self._weights)] = weight

    def read(self) -> dict[str, Array]:
        """Copies of all weights, moving statistics among them."""
        return {name: np.array(_to_numpy(weight)) for name, weight in self._weights.items()}

    def write(self, values: Mapping[str, Array]) -> None:
        """Assign weights."""
        for name, value in values.items():
            self._weights[name].assign(value)

    def trainable(self) -> Set[str]:
        """Trainable weights of layers that are trainable."""
        training = {id(weight) for weight in self._model.trainable_weights}
        return {name for name, weight in self._weights.items() if id(weight) in training}

    def constants(self) -> Set[str]:
        """Means and variances of layers that normalise inputs: they are given or adapted to data, and never trained."""
        import keras

        layers: list[keras.Layer] = [self._model]
        held: set[int] = set()
        for layer in layers:  # which grows by the layers of each model
            layers += getattr(layer, "layers", ())
            held |= {id(weight) for weight in layer.weights} if isinstance(layer, keras.layers.Normalization) else set()
        return {name for name, weight in self._weights.items() if id(weight) in held}

    def convert(self, folder: Path) -> Path:
        """Convert the model by Keras's own exporter.

        A model in mixed precision, whose weights are of float32, is one of float32 in the file, which any runtime runs.
        """
        path = folder / "model.onnx"
        with (
            _variables_kept(self._model),
            _computing_in_float32(self._model),
            converting(self._model.name, "Keras"),
            _plain_operators(self._backend),
            quiet("tf2onnx"),
            quiet("onnx_ir"),
        ):
            self._export(path)
        return path

    def mend(self, path: Path) -> None:
        """Make onnx's checker and onnxruntime take jax2onnx's files."""
        if self._backend == "jax":
            mend_file(path)

    def _export(self, path: Path) -> None:
        if self._backend == "torch":  # `Model.export` lets torch fold batch norms
            from onnx_ghn.torch_export import module_to_file

            module, tensors, names = self._model, self._model.inputs, None
            if isinstance(named := getattr(self._model, "input", None), dict):
                module, tensors, names = _by_position(self._model), named.values(), list(named)
            inputs = tuple(_torch_zeros(tensor) for tensor in tensors)
            module_to_file(module, inputs, {}, path, "torchscript", input_names=names)
        else:
            self._model.export(str(path), format="onnx", verbose=False, **self._options)


_bridge = Bridge(LiveKeras, KerasExportOptions.__annotations__)
export, load, initialize = _bridge.export, _bridge.load, _bridge.initialize


def save_weights(model: keras.Model, path: Path) -> None:
    """Save the weights as `<name>.weights.h5`, by Keras."""
    model.save_weights(str(path))


def _to_numpy(weight: keras.Variable) -> Array:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(weight))


def _given(example_inputs: object) -> object:
    """Example inputs, with zeros in the place of shapes."""
    if is_shape(example_inputs):
        return np.zeros([n if isinstance(n, int) else 1 for n in example_inputs], "float32")
    if isinstance(example_inputs, list | tuple) and any(is_shape(given) for given in example_inputs):
        return [_given(given) for given in example_inputs]
    return example_inputs


def _zeros(model: keras.Model) -> object:
    """Zeros for each of a model's inputs.

    Raises:
        OptionError: the model does not know its inputs yet.
    """
    import keras

    if not getattr(model, "inputs", None):
        raise OptionError(f"the model {model.name!r} has no weights yet: call it once, or give `example_inputs`")
    # A Sequential has no `input` before its first call.
    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(
        lambda tensor: np.zeros([1 if n is None else n for n in tensor.shape], tensor.dtype), inputs
    )


def _torch_zeros(tensor: keras.KerasTensor) -> torch.Tensor:
    import torch

    return torch.zeros([1 if n is None else n for n in tensor.shape], dtype=getattr(torch, str(tensor.dtype)))


def _by_position(model: keras.Model) -> torch.nn.Module:
    """A module of torch that calls a model of named inputs, which torch's exporter takes for keyword arguments."""
    import torch

    class ByPosition(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> object:
            return self.model(dict(zip(model.input, inputs, strict=True)))

    return ByPosition()


@contextlib.contextmanager
def _variables_kept(model: keras.Model) -> Iterator[None]:
    """Give a model's variables that are not trained their values back: a call may count, or average what it sees."""
    variables = [(variable, np.array(_to_numpy(variable))) for variable in model.non_trainable_variables]
    try:
        yield
    finally:
        for variable, value in variables:  # what JAX traced may have left something without values there
            variable.assign(value)


@contextlib.contextmanager
def _computing_in_float32(model: keras.Model) -> Iterator[None]:
    """Let layers in mixed precision compute in float32, and give them their policies back."""
    policies = [
        (layer, layer.dtype_policy)
        for layer in model._flatten_layers(include_self=True, recursive=True)
        if layer.variable_dtype == "float32" and layer.compute_dtype != "float32" and not layer.quantization_mode
    ]
    try:
        for layer, _ in policies:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in policies:
            layer.dtype_policy = policy


@contextlib.contextmanager
def _plain_operators(backend: str) -> Iterator[None]:
    """Replace three of Keras's functions, for which there are no options, for the time of an export.

    Keras writes a batch norm as arithmetic, whose constants TensorFlow folds into the layer before it, and tf2onnx
    folds the fused operator likewise. Keras compiles grouped convolutions by XLA, which tf2onnx writes as a call that
    no runtime knows, as it does the Erfc of an exact GELU.
    """
    if backend != "tensorflow":
        yield
        return
    import tensorflow as tf
    from keras.src.backend.tensorflow import nn

    plain, plain_conv, plain_gelu = nn.batch_normalization, nn.conv, nn.gelu

    def fused(
        x: tf.Tensor,
        mean: tf.Tensor,
        variance: tf.Tensor,
        axis: int,
        offset: tf.Tensor | None = None,
        scale: tf.Tensor | None = None,
        epsilon: float = 1e-3,
    ) -> tf.Tensor:
        rank = len(x.shape)
        if not 2 <= rank <= 5:
            return plain(x, mean, variance, axis, offset, scale, epsilon)
        if axis not in (-1, rank - 1):  # the operator takes the channels last alone, on CPUs
            moved = [i for i in range(rank) if i != axis % rank]
            y = fused(tf.transpose(x, [*moved, axis % rank]), mean, variance, -1, offset, scale, epsilon)
            return tf.transpose(y, [*range(axis % rank), rank - 1, *range(axis % rank, rank - 1)])
        shape = tf.shape(x)
        if rank == 5:  # the operator takes only images: those of all depths, one after the other
            x = tf.reshape(x, [-1, *(shape[i] if size is None else size for i, size in enumerate(x.shape[2:], 2))])
        elif rank < 4:
            x = tf.expand_dims(x, 1) if rank == 3 else x[:, None, None]
        scale = tf.ones_like(mean) if scale is None else scale
        offset = tf.zeros_like(mean) if offset is None else offset
        y = tf.compat.v1.nn.fused_batch_norm(x, scale, offset, mean, variance, epsilon, is_training=False)[0]
        return y if rank == 4 else tf.reshape(y, shape)

    def conv(
        x: tf.Tensor,
        kernel: tf.Tensor,
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
    ) -> tf.Tensor:
        if data_format == "channels_first" or x.shape[-1] == kernel.shape[-2]:
            return plain_conv(x, kernel, strides, padding, data_format, dilation_rate)
        return tf.nn.convolution(x, kernel, strides, padding.upper(), dilations=dilation_rate)

    def gelu(x: tf.Tensor, approximate: bool = True) -> tf.Tensor:
        return plain_gelu(x, approximate) if approximate else 0.5 * x * (1 + tf.math.erf(x * 0.5**0.5))

    with _patching, as_written():
        nn.batch_normalization, nn.conv, nn.gelu = fused, conv, gelu
        try:
            yield
        finally:
            nn.batch_normalization, nn.conv, nn.gelu = plain, plain_conv, plain_gelu
