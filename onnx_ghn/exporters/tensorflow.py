"""TensorFlow without Keras: a tf.Module or a SavedModel is exported by tf2onnx."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.exporters.optional_imports import require
from onnx_ghn.exporters.output import quiet
from onnx_ghn.exporters.reports import ExportReport, LoadReport
from onnx_ghn.exporters.roundtrip import INPUTS_NEEDED, export_live, load_live, unique_name
from onnx_ghn.exporters.weight_map import Array

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["LiveTensorFlow", "export", "load", "save_weights", "unfolded"]

_OPSET = 18
_SIGNATURE = "serving_default"
_changing = threading.Lock()


class LiveTensorFlow:
    """Adapts a tf.Module with a `__call__`, or what `tf.saved_model.load` returns, to `roundtrip.LiveModel`.

    Args:
        example_inputs: an array, a shape (None for a free axis) or a tf.TensorSpec, or a list of them. A SavedModel
            knows its own inputs.
    """

    framework = "tensorflow"
    numbered = False
    _weights: dict[str, tf.Variable]

    def __init__(self, model: tf.Module, example_inputs: object = None) -> None:
        tf = require("tensorflow", "tensorflow")
        converter = require("tf2onnx", "tensorflow")
        self.exporter = f"tensorflow {tf.__version__}, tf2onnx {converter.__version__}"
        signatures = getattr(model, "signatures", {})
        if _SIGNATURE in signatures:
            function = signatures[_SIGNATURE]
            specs = function.structured_input_signature[1]
            self._call: Callable[..., object] = lambda *inputs: function(**dict(zip(specs, inputs, strict=True)))
            self._specs = list(specs.values())
            variables, training = function.variables, function.trainable_variables
        elif isinstance(model, tf.Module) and callable(model):
            self._call = model
            self._specs = [] if example_inputs is None else _specs(example_inputs)
            self._build(model)
            variables, training = model.variables, model.trainable_variables
        else:
            raise OptionError(
                f"a {type(model).__name__} is neither a tf.Module with a __call__ nor a SavedModel with the signature "
                f"{_SIGNATURE!r}; Keras models have an exporter of their own"
            )
        self._name = type(model).__name__
        self._weights = {}
        for variable in variables:
            if variable.dtype.is_floating:
                self._weights[unique_name(variable.name.removesuffix(":0"), self._weights)] = variable
        references = {variable.ref() for variable in training}
        self._trainable = {name for name, variable in self._weights.items() if variable.ref() in references}

    def read(self) -> dict[str, Array]:
        """Copies of all floating-point variables."""
        return {name: np.array(variable.numpy()) for name, variable in self._weights.items()}

    def write(self, values: Mapping[str, Array]) -> None:
        """Assign variables."""
        for name, value in values.items():
            self._weights[name].assign(value)

    def trainable(self) -> Set[str]:
        """Trainable variables."""
        return self._trainable

    def convert(self, folder: Path) -> Path:
        """Convert the model by tf2onnx, as a new tf.function."""
        import tensorflow as tf
        import tf2onnx

        if not self._specs:
            raise OptionError(INPUTS_NEEDED)
        path = folder / "model.onnx"
        try:
            with unfolded(), quiet("tf2onnx"):
                function = tf.function(lambda *inputs: self._call(*inputs), autograph=False)
                tf2onnx.convert.from_function(function, self._specs, opset=_OPSET, output_path=str(path))
        except Exception as error:  # whatever a foreign module's call raises, too
            raise GraphError(f"{self._name}: tf2onnx cannot export it ({type(error).__name__}: {error})") from error
        return path

    def _build(self, model: tf.Module) -> None:
        """Call a module that makes its variables at its first call."""
        import tensorflow as tf

        if model.variables or not self._specs:
            return
        model(*(tf.zeros([n or 1 for n in spec.shape], spec.dtype) for spec in self._specs))


def export(
    model: tf.Module, path: str | os.PathLike[str], example_inputs: object = None, *, force: bool = False
) -> ExportReport:
    """Write a TensorFlow module or SavedModel as ONNX, with a map of its variables, which stay as they are.

    A batch norm that is one operator (`fused_batch_norm`) stays whole. TensorFlow folds a batch norm that is written as
    arithmetic, and the report says so.

    Args:
        example_inputs: inputs of a tf.Module: an array, a shape (None for a free axis) or a tf.TensorSpec, or a list of
            them.
        force: overwrite `path`.

    Raises:
        GraphError: tf2onnx cannot export the model.
        ModelWriteError: the file exists, or cannot be written.
        OptionError: tensorflow or tf2onnx is not installed.
    """
    return export_live(LiveTensorFlow(model, example_inputs), path, force=force)


def load(model: tf.Module, onnx_path: str | os.PathLike[str], example_inputs: object = None) -> LoadReport:
    """Assign the weights of its ONNX file to the variables of a module or SavedModel.

    Args:
        example_inputs: as for `export`. Only a file that `export` did not write needs them.

    Raises:
        CheckpointError: the file is of another model; this one is unchanged.
        ModelReadError: the file cannot be read.
    """
    return load_live(LiveTensorFlow(model, example_inputs), onnx_path)


def save_weights(model: tf.Module, path: Path) -> None:
    """Save a folder with a checkpoint, which `tf.train.Checkpoint(model).read(folder / "weights")` reads."""
    import tensorflow as tf

    path.mkdir()
    tf.train.Checkpoint(model).write(str(path / "weights"))


@contextlib.contextmanager
def unfolded() -> Iterator[None]:
    """Take from tf2onnx the rule that folds batch norms into convolutions, for which it has no option."""
    from tf2onnx.optimizer import back_to_back_optimizer

    rules = back_to_back_optimizer._func_map
    rule = ("Conv", "BatchNormalization")
    with _changing:
        fold = rules.pop(rule, None)
        try:
            yield
        finally:
            if fold is not None:
                rules[rule] = fold


def _specs(example_inputs: object) -> list[tf.TensorSpec]:
    import tensorflow as tf

    def is_shape(value: object) -> bool:
        return isinstance(value, list | tuple) and all(n is None or isinstance(n, int) for n in value)

    inputs: Sequence[object] = [example_inputs]
    if isinstance(example_inputs, list | tuple) and not is_shape(example_inputs):
        inputs = example_inputs
    specs = []
    for number, example in enumerate(inputs):
        if isinstance(example, tf.TensorSpec):
            specs.append(example)
        elif is_shape(example):
            specs.append(tf.TensorSpec(example, tf.float32, name=f"input_{number}"))
        else:
            array = tf.convert_to_tensor(example)
            specs.append(tf.TensorSpec([None, *array.shape[1:]], array.dtype, name=f"input_{number}"))
    return specs
