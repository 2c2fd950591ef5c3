"""TensorFlow without Keras: tf.Module and SavedModel, by tf2onnx."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.exporters.missing import require
from onnx_ghn.exporters.output import quiet
from onnx_ghn.exporters.reports import ExportReport, LoadReport
from onnx_ghn.exporters.roundtrip import export_live, free_name, load_live

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["LiveTensorFlow", "export", "load", "save_weights", "unfolded"]

Array = npt.NDArray[Any]
_OPSET = 18
_SIGNATURE = "serving_default"
_changing = threading.Lock()


class LiveTensorFlow:
    """A tf.Module that can be called, or what `tf.saved_model.load` returns, for `roundtrip`.

    Args:
        example_inputs: an array, a shape (None for a free axis) or a tf.TensorSpec, or a list of such; a SavedModel
            knows its own.
    """

    framework = "tensorflow"
    numbered = False

    def __init__(self, model: tf.Module, example_inputs: Any = None) -> None:
        tf = require("tensorflow", "tensorflow")
        converter = require("tf2onnx", "tensorflow")
        self.exporter = f"tensorflow {tf.__version__}, tf2onnx {converter.__version__}"
        signatures = getattr(model, "signatures", {})
        if _SIGNATURE in signatures:
            function = signatures[_SIGNATURE]
            specs = function.structured_input_signature[1]
            self._call: Callable[..., Any] = lambda *inputs: function(**dict(zip(specs, inputs, strict=True)))
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
        self._weights: dict[str, Any] = {}
        for variable in variables:
            if variable.dtype.is_floating:
                self._weights[free_name(variable.name.removesuffix(":0"), self._weights)] = variable
        kept = {variable.ref() for variable in training}
        self._trainable = {name for name, variable in self._weights.items() if variable.ref() in kept}

    def read(self) -> dict[str, Array]:
        """Copies of all variables of floats."""
        return {name: np.array(variable.numpy()) for name, variable in self._weights.items()}

    def write(self, values: Mapping[str, Array]) -> None:
        """Assign them."""
        for name, value in values.items():
            self._weights[name].assign(value)

    def trainable(self) -> Set[str]:
        """Trainable variables."""
        return self._trainable

    def convert(self, folder: Path) -> Path:
        """By tf2onnx, through a function of its own."""
        import tensorflow as tf
        import tf2onnx

        if not self._specs:
            raise OptionError("the model has to be exported once more, to compare: give example_inputs")
        path = folder / "model.onnx"
        try:
            with unfolded(), quiet("tf2onnx"):
                function = tf.function(lambda *inputs: self._call(*inputs), autograph=False)
                tf2onnx.convert.from_function(function, self._specs, opset=_OPSET, output_path=str(path))
        except Exception as error:  # whatever a foreign module's call raises, too
            raise GraphError(f"{self._name}: tf2onnx cannot export it ({type(error).__name__}: {error})") from error
        return path

    def _build(self, model: Any) -> None:
        """Modules that make their variables at the first call."""
        import tensorflow as tf

        if model.variables or not self._specs:
            return
        model(*(tf.zeros([n or 1 for n in spec.shape], spec.dtype) for spec in self._specs))


def export(
    model: tf.Module, path: str | os.PathLike[str], example_inputs: Any = None, *, force: bool = False
) -> ExportReport:
    """Write a TensorFlow module or SavedModel as ONNX, each of its variables traced; they stay as they are.

    A batch norm is kept where it is one operator (`fused_batch_norm`); TensorFlow folds one that is written as
    arithmetic, and the report says so.

    Args:
        example_inputs: of a tf.Module: an array, a shape (None for a free axis) or a tf.TensorSpec, or a list of such.
        force: overwrite `path`.

    Raises:
        GraphError: tf2onnx cannot export it. ModelWriteError. OptionError: tensorflow or tf2onnx is not installed.
    """
    return export_live(LiveTensorFlow(model, example_inputs), path, force=force)


def load(model: tf.Module, onnx_path: str | os.PathLike[str], example_inputs: Any = None) -> LoadReport:
    """Assign the weights of an ONNX file of it to a module's or SavedModel's variables.

    Args:
        example_inputs: as of `export`, for a file that it did not write.

    Raises:
        CheckpointError: the file is of another model; this one is unchanged. ModelReadError.
    """
    return load_live(LiveTensorFlow(model, example_inputs), onnx_path)


def save_weights(model: tf.Module, path: Path) -> None:
    """A folder with a checkpoint that `tf.train.Checkpoint(model).read(folder / "weights")` takes."""
    import tensorflow as tf

    path.mkdir()
    tf.train.Checkpoint(model).write(str(path / "weights"))


@contextlib.contextmanager
def unfolded() -> Iterator[None]:
    """tf2onnx folds batch norms into convolutions, and has no option against it: without that rule for a while."""
    from tf2onnx.optimizer import back_to_back_optimizer

    rules = back_to_back_optimizer._func_map
    rule = ("Conv", "BatchNormalization")
    with _changing:
        kept = rules.pop(rule, None)
        try:
            yield
        finally:
            if kept is not None:
                rules[rule] = kept


def _specs(example_inputs: Any) -> list[Any]:
    import tensorflow as tf

    def is_shape(value: Any) -> bool:
        return isinstance(value, list | tuple) and all(n is None or isinstance(n, int) for n in value)

    several = isinstance(example_inputs, list | tuple) and not is_shape(example_inputs)
    inputs: Sequence[Any] = example_inputs if several else [example_inputs]
    specs = []
    for number, given in enumerate(inputs):
        if isinstance(given, tf.TensorSpec):
            specs.append(given)
        elif is_shape(given):
            specs.append(tf.TensorSpec(given, tf.float32, name=f"input_{number}"))
        else:
            array = tf.convert_to_tensor(given)
            specs.append(tf.TensorSpec([None, *array.shape[1:]], array.dtype, name=f"input_{number}"))
    return specs
