"""TensorFlow without Keras: a tf.Module or a SavedModel is exported by tf2onnx."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_ghn.errors import OptionError
from onnx_ghn.exporters.bridge import Bridge, converting, input_list, is_shape
from onnx_ghn.exporters.live import LiveModel
from onnx_ghn.exporters.output import quiet
from onnx_ghn.exporters.roundtrip import unique_name
from onnx_ghn.exporters.weight_map import Array
from onnx_ghn.installing import require

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["LiveTensorFlow", "as_written", "export", "initialize", "load", "save_weights"]

_OPSET = 18
_SIGNATURE = "serving_default"
_changing = threading.Lock()


class LiveTensorFlow(LiveModel):
    """Adapts a tf.Module with a `__call__`, or what `tf.saved_model.load` returns, to `roundtrip.LiveModel`.

    A batch norm that is one operator (`fused_batch_norm`) stays whole. TensorFlow folds a batch norm that is written as
    arithmetic, and the report of an export says so.

    Args:
        example_inputs: an array, a shape (None for a free axis) or a tf.TensorSpec, or a list of them. A SavedModel
            knows its own inputs.
    """

    framework = "tensorflow"
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

        specs = input_list(self._specs or None)
        path = folder / "model.onnx"
        with converting(self._name, "tf2onnx"), as_written(), quiet("tf2onnx"):
            function = tf.function(lambda *inputs: self._call(*inputs), autograph=False)
            tf2onnx.convert.from_function(function, specs, opset=_OPSET, output_path=str(path))
        return path

    def _build(self, model: tf.Module) -> None:
        """Call a module that makes its variables at its first call."""
        import tensorflow as tf

        if model.variables or not self._specs:
            return
        model(*(tf.zeros([n or 1 for n in spec.shape], spec.dtype) for spec in self._specs))


_bridge = Bridge(LiveTensorFlow)
export, load, initialize = _bridge.export, _bridge.load, _bridge.initialize


def save_weights(model: tf.Module, path: Path) -> None:
    """Save a folder with a checkpoint, which `tf.train.Checkpoint(model).read(folder / "weights")` reads."""
    import tensorflow as tf

    path.mkdir()
    tf.train.Checkpoint(model).write(str(path / "weights"))


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """Have tf2onnx, which has no options for that, keep batch norms, and keep the constants of a model inside the file.

    It has a rule that folds batch norms into convolutions. And TensorFlow lists what a function captures among the
    function's inputs, tensors that a model holds as well (the mean of Keras's `Normalization`, a tf.constant of a
    module): tf2onnx asks whoever runs the file for them.
    """
    from tf2onnx import convert
    from tf2onnx.optimizer import back_to_back_optimizer

    rules = back_to_back_optimizer._func_map
    rule = ("Conv", "BatchNormalization")
    plain = convert._convert_common

    def own_inputs_alone(frozen_graph: Any, *args: Any, input_names: list[str], **named: Any) -> Any:
        operators = {node.name: node.op for node in frozen_graph.node}  # a constant that was folded is there no more
        own = [name for name in input_names if operators.get(name.partition(":")[0], "Const") != "Const"]
        return plain(frozen_graph, *args, input_names=own, **named)

    with _changing:
        fold = rules.pop(rule, None)
        convert._convert_common = own_inputs_alone
        try:
            yield
        finally:
            convert._convert_common = plain
            if fold is not None:
                rules[rule] = fold


def _specs(example_inputs: object) -> list[tf.TensorSpec]:
    import tensorflow as tf

    specs = []
    for number, example in enumerate(input_list(example_inputs)):
        if isinstance(example, tf.TensorSpec):
            specs.append(example)
        elif is_shape(example):
            specs.append(tf.TensorSpec(example, tf.float32, name=f"input_{number}"))
        else:
            array = tf.convert_to_tensor(example)
            specs.append(tf.TensorSpec([None, *array.shape[1:]], array.dtype, name=f"input_{number}"))
    return specs
