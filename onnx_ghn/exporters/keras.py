"""Keras 3 on TensorFlow, JAX or torch: its own `Model.export`, with batch norms kept."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import threading
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.exporters.missing import require
from onnx_ghn.exporters.output import quiet
from onnx_ghn.exporters.reports import ExportReport, LoadReport
from onnx_ghn.exporters.roundtrip import export_live, free_name, load_live
from onnx_ghn.exporters.tensorflow import unfolded

if TYPE_CHECKING:
    import keras

__all__ = ["LiveKeras", "export", "load", "save_weights"]

Array = npt.NDArray[Any]
_patching = threading.Lock()


class LiveKeras:
    """A keras.Model for `roundtrip`.

    Args:
        model: a built model.
        example_inputs: calls a model that was never called, so that it has weights; else not needed.
        options: of `keras.Model.export`: input_signature, opset_version.
    """

    framework = "keras"
    numbered = True

    def __init__(self, model: keras.Model, example_inputs: Any = None, **options: Any) -> None:
        keras = require("keras", "keras")
        if not isinstance(model, keras.Model):
            raise OptionError(f"a {type(model).__name__} is no keras.Model")
        self._model = model
        self._options = options
        if example_inputs is not None:
            model(example_inputs, training=False)
        elif not getattr(model, "_called", True):
            model(_zeros(model, keras), training=False)
        self._backend = keras.backend.backend()
        if self._backend not in ("tensorflow", "jax", "torch"):
            raise OptionError(f"Keras on {self._backend} exports no ONNX; use KERAS_BACKEND=tensorflow, jax or torch")
        converter = {"tensorflow": "tf2onnx", "jax": "jax2onnx", "torch": "torch"}[self._backend]
        require(converter, "keras")
        version = importlib.metadata.version(converter)
        self.exporter = f"keras {keras.__version__} on {self._backend}, {converter} {version}"
        self._weights = {}
        for weight in model.weights:
            if "float" in str(weight.dtype):  # not a seed's state
                self._weights[free_name(weight.path, self._weights)] = weight

    def read(self) -> dict[str, Array]:
        """Copies of all weights: kernels, scales, moving statistics."""
        return {name: np.array(_to_numpy(weight)) for name, weight in self._weights.items()}

    def write(self, values: Mapping[str, Array]) -> None:
        """Assign them."""
        for name, value in values.items():
            self._weights[name].assign(value)

    def trainable(self) -> Set[str]:
        """Trainable weights of layers that are trainable."""
        training = {id(weight) for weight in self._model.trainable_weights}
        return {name for name, weight in self._weights.items() if id(weight) in training}

    def convert(self, folder: Path) -> Path:
        """By Keras's own exporter, into a file."""
        path = folder / "model.onnx"
        try:
            with _plain_operators(self._backend), quiet("tf2onnx"):
                self._export(path)
        except Exception as error:
            raise GraphError(f"{self._model.name}: Keras cannot export it ({type(error).__name__}: {error})") from error
        return path

    def _export(self, path: Path) -> None:
        if self._backend == "torch":  # Keras lets torch fold batch norms
            from onnx_ghn.torch_export import module_to_file

            inputs = tuple(_torch_zeros(tensor) for tensor in self._model.inputs)
            module_to_file(self._model, inputs, {}, path, "torchscript")
        else:
            self._model.export(str(path), format="onnx", verbose=False, **self._options)


def export(
    model: keras.Model, path: str | os.PathLike[str], example_inputs: Any = None, *, force: bool = False, **options: Any
) -> ExportReport:
    """Write a Keras model as ONNX, its batch norms kept and each of its weights traced.

    Args:
        example_inputs: of a subclassed model that was never called.
        force: overwrite `path`.
        options: of `keras.Model.export`.

    Raises:
        GraphError: Keras cannot export it. ModelWriteError. OptionError: Keras or its converter is not installed.
    """
    return export_live(LiveKeras(model, example_inputs, **options), path, force=force)


def load(
    model: keras.Model, onnx_path: str | os.PathLike[str], example_inputs: Any = None, **options: Any
) -> LoadReport:
    """Set a Keras model's weights to those of an ONNX file of it, in place.

    Raises:
        CheckpointError: the file is of another model; this one is unchanged. ModelReadError.
    """
    return load_live(LiveKeras(model, example_inputs, **options), onnx_path)


def save_weights(model: keras.Model, path: Path) -> None:
    """As Keras does, `<name>.weights.h5`."""
    model.save_weights(str(path))


def _to_numpy(weight: Any) -> Array:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(weight))


def _zeros(model: keras.Model, keras: Any) -> Any:
    """Zeros for each of a model's inputs. Raises OptionError where it has told none yet."""
    if not getattr(model, "inputs", None):
        raise OptionError(
            f"the model {model.name!r} has no weights yet: give example inputs, or call it on some before the export"
        )
    # A Sequential has no `input` before its first call.
    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(
        lambda tensor: np.zeros([1 if n is None else n for n in tensor.shape], tensor.dtype), inputs
    )


def _torch_zeros(tensor: Any) -> Any:
    import torch

    return torch.zeros([1 if n is None else n for n in tensor.shape], dtype=getattr(torch, str(tensor.dtype)))


@contextlib.contextmanager
def _plain_operators(backend: str) -> Iterator[None]:
    """Keras writes batch norms as arithmetic, whose constants TensorFlow then folds into what stands before; tf2onnx
    folds the fused operator likewise. Grouped convolutions are compiled by XLA, which tf2onnx leaves as a call that no
    runtime knows, as it does the Erfc of an exact GELU. None of it has an option, so what they do is replaced for the
    time of an export.
    """
    if backend != "tensorflow":
        yield
        return
    import tensorflow as tf
    from keras.src.backend.tensorflow import nn

    plain, plain_conv, plain_gelu = nn.batch_normalization, nn.conv, nn.gelu

    def fused(
        x: Any, mean: Any, variance: Any, axis: int, offset: Any = None, scale: Any = None, epsilon: float = 1e-3
    ) -> Any:
        rank = len(x.shape)
        if axis not in (-1, rank - 1) or not 2 <= rank <= 4:
            return plain(x, mean, variance, axis, offset, scale, epsilon)
        shape = tf.shape(x)
        if rank < 4:  # the operator takes images alone
            x = tf.expand_dims(x, 1) if rank == 3 else x[:, None, None]
        scale = tf.ones_like(mean) if scale is None else scale
        offset = tf.zeros_like(mean) if offset is None else offset
        y = tf.compat.v1.nn.fused_batch_norm(x, scale, offset, mean, variance, epsilon, is_training=False)[0]
        return y if rank == 4 else tf.reshape(y, shape)

    def conv(
        x: Any,
        kernel: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
    ) -> Any:
        if data_format == "channels_first" or x.shape[-1] == kernel.shape[-2]:
            return plain_conv(x, kernel, strides, padding, data_format, dilation_rate)
        return tf.nn.convolution(x, kernel, strides, padding.upper(), dilations=dilation_rate)

    def gelu(x: Any, approximate: bool = True) -> Any:
        return plain_gelu(x, approximate) if approximate else 0.5 * x * (1 + tf.math.erf(x * 0.5**0.5))

    with _patching, unfolded():
        nn.batch_normalization, nn.conv, nn.gelu = fused, conv, gelu
        try:
            yield
        finally:
            nn.batch_normalization, nn.conv, nn.gelu = plain, plain_conv, plain_gelu
