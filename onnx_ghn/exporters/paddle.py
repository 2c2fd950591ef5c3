"""PaddlePaddle: paddle.nn.Layer, by paddle2onnx."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import GraphError, OnnxGhnError, OptionError
from onnx_ghn.exporters.missing import require
from onnx_ghn.exporters.output import captured
from onnx_ghn.exporters.reports import ExportReport, LoadReport
from onnx_ghn.exporters.roundtrip import export_live, load_live

if TYPE_CHECKING:
    import paddle

__all__ = ["LivePaddle", "export", "load", "save_weights"]

Array = npt.NDArray[Any]
_OPSET = 17


class LivePaddle:
    """A paddle.nn.Layer for `roundtrip`.

    Args:
        example_inputs: a tensor or a paddle.static.InputSpec, or a list of such.
    """

    framework = "paddle"
    numbered = False

    def __init__(self, model: paddle.nn.Layer, example_inputs: Any = None) -> None:
        paddle = require("paddle", "paddle")
        converter = require("paddle2onnx", "paddle")
        if not isinstance(model, paddle.nn.Layer):
            raise OptionError(f"a {type(model).__name__} is no paddle.nn.Layer")
        self.exporter = f"paddle {paddle.__version__}, paddle2onnx {converter.__version__}"
        self._model, self._inputs = model, example_inputs
        self._weights, seen = {}, set()
        for name, tensor in model.state_dict().items():  # recurrent layers list their cells' weights twice
            if tensor.is_floating_point() and tensor.name not in seen:
                self._weights[name] = tensor
                seen.add(tensor.name)

    def read(self) -> dict[str, Array]:
        """Copies of parameters and persistent buffers."""
        return {name: np.array(tensor.numpy()) for name, tensor in self._weights.items()}

    def write(self, values: Mapping[str, Array]) -> None:
        """Set them in place."""
        for name, value in values.items():
            self._weights[name].set_value(np.ascontiguousarray(value))

    def trainable(self) -> Set[str]:
        """Parameters that take a gradient."""
        training = {parameter.name for parameter in self._model.parameters() if parameter.trainable}
        return {name for name, tensor in self._weights.items() if tensor.name in training}

    def convert(self, folder: Path) -> Path:
        """The two steps of paddle.onnx.export, which itself has constants folded by a tool that installs packages."""
        import paddle
        import paddle2onnx

        saved, path = folder / "model", folder / "model.onnx"
        name = type(self._model).__name__
        with captured() as said:
            try:
                with _inference(self._model):
                    paddle.jit.save(self._model, str(saved), self._specs())
                program = saved.with_suffix(".json")
                paddle2onnx.export(
                    str(program if program.exists() else saved.with_suffix(".pdmodel")),
                    str(saved.with_suffix(".pdiparams")),
                    str(path),
                    opset_version=_OPSET,
                    optimize_tool="None",
                )
            except OnnxGhnError:
                raise
            except Exception as error:  # whatever a foreign layer's forward pass raises, too
                raise GraphError(f"{name}: Paddle cannot export it ({type(error).__name__}: {error})") from error
            if not path.exists():
                raise GraphError(f"{name}: paddle2onnx wrote no file ({said()[-300:]})")
        return path

    def _specs(self) -> list[Any]:
        import paddle

        if self._inputs is None:
            raise OptionError("the model has to be exported once more, to compare: give example_inputs")
        several: Sequence[Any] = self._inputs if isinstance(self._inputs, list | tuple) else [self._inputs]
        return [
            given
            if isinstance(given, paddle.static.InputSpec)
            else paddle.static.InputSpec([None, *given.shape[1:]], given.dtype, f"input_{i}")
            for i, given in enumerate(several)
        ]


def export(
    model: paddle.nn.Layer, path: str | os.PathLike[str], example_inputs: Any, *, force: bool = False
) -> ExportReport:
    """Write a Paddle layer in inference mode as ONNX, each of its weights traced; its modes stay as they are.

    Args:
        example_inputs: a tensor (its first axis becomes free) or a paddle.static.InputSpec, or a list of such.
        force: overwrite `path`.

    Raises:
        GraphError: Paddle cannot export it. ModelWriteError. OptionError: paddle or paddle2onnx is not installed.
    """
    return export_live(LivePaddle(model, example_inputs), path, force=force)


def load(model: paddle.nn.Layer, onnx_path: str | os.PathLike[str], example_inputs: Any = None) -> LoadReport:
    """Set a Paddle layer's weights to those of an ONNX file of it, in place.

    Args:
        example_inputs: as of `export`, for a file that it did not write.

    Raises:
        CheckpointError: the file is of another model; this one is unchanged. ModelReadError.
    """
    return load_live(LivePaddle(model, example_inputs), onnx_path)


def save_weights(model: paddle.nn.Layer, path: Path) -> None:
    """As Paddle does, `<name>.pdparams`."""
    import paddle

    paddle.save(model.state_dict(), str(path))


@contextlib.contextmanager
def _inference(model: paddle.nn.Layer) -> Iterator[None]:
    modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training
