"""PaddlePaddle: a paddle.nn.Layer is exported by paddle2onnx."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from onnx_ghn.errors import GraphError, OnnxGhnError, OptionError
from onnx_ghn.exporters.optional_imports import require
from onnx_ghn.exporters.output import captured
from onnx_ghn.exporters.reports import ExportReport, LoadReport
from onnx_ghn.exporters.roundtrip import INPUTS_NEEDED, export_live, load_live
from onnx_ghn.exporters.weight_map import Array

if TYPE_CHECKING:
    import paddle

    Example: TypeAlias = "paddle.Tensor | paddle.static.InputSpec"

__all__ = ["LivePaddle", "export", "load", "save_weights"]

_OPSET = 17


class LivePaddle:
    """Adapts a paddle.nn.Layer to `roundtrip.LiveModel`.

    Args:
        example_inputs: a tensor or a paddle.static.InputSpec, or a list of them.
    """

    framework = "paddle"
    numbered = False
    _weights: dict[str, paddle.Tensor]

    def __init__(self, model: paddle.nn.Layer, example_inputs: Example | Sequence[Example] | None = None) -> None:
        paddle = require("paddle", "paddle")
        converter = require("paddle2onnx", "paddle")
        if not isinstance(model, paddle.nn.Layer):
            raise OptionError(f"a {type(model).__name__} is no paddle.nn.Layer")
        self.exporter = f"paddle {paddle.__version__}, paddle2onnx {converter.__version__}"
        self._model, self._inputs = model, example_inputs
        self._weights = {}
        seen: set[str] = set()
        for name, tensor in model.state_dict().items():  # recurrent layers list the weights of their cells twice
            if tensor.is_floating_point() and tensor.name not in seen:
                self._weights[name] = tensor
                seen.add(tensor.name)

    def read(self) -> dict[str, Array]:
        """Copies of parameters and persistent buffers."""
        return {name: np.array(tensor.numpy()) for name, tensor in self._weights.items()}

    def write(self, values: Mapping[str, Array]) -> None:
        """Set weights in place."""
        for name, value in values.items():
            self._weights[name].set_value(np.ascontiguousarray(value))

    def trainable(self) -> Set[str]:
        """Parameters that take a gradient."""
        training = {parameter.name for parameter in self._model.parameters() if parameter.trainable}
        return {name for name, tensor in self._weights.items() if tensor.name in training}

    def convert(self, folder: Path) -> Path:
        """Convert the layer by the two steps of paddle.onnx.export.

        paddle.onnx.export itself has constants folded, by a tool that installs packages.
        """
        import paddle
        import paddle2onnx

        saved, path = folder / "model", folder / "model.onnx"
        name = type(self._model).__name__
        with captured() as output:
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
                raise GraphError(f"{name}: paddle2onnx wrote no file ({output()[-300:]})")
        return path

    def _specs(self) -> list[paddle.static.InputSpec]:
        import paddle

        if self._inputs is None:
            raise OptionError(INPUTS_NEEDED)
        inputs = self._inputs if isinstance(self._inputs, list | tuple) else [self._inputs]
        return [
            example
            if isinstance(example, paddle.static.InputSpec)
            else paddle.static.InputSpec([None, *example.shape[1:]], example.dtype, f"input_{i}")
            for i, example in enumerate(inputs)
        ]


def export(
    model: paddle.nn.Layer,
    path: str | os.PathLike[str],
    example_inputs: Example | Sequence[Example],
    *,
    force: bool = False,
) -> ExportReport:
    """Write a Paddle layer in inference mode as ONNX, with a map of its weights. The layer keeps its own modes.

    Args:
        example_inputs: a tensor (whose first axis becomes free) or a paddle.static.InputSpec, or a list of them.
        force: overwrite `path`.

    Raises:
        GraphError: Paddle cannot export the layer.
        ModelWriteError: the file exists, or cannot be written.
        OptionError: paddle or paddle2onnx is not installed.
    """
    return export_live(LivePaddle(model, example_inputs), path, force=force)


def load(
    model: paddle.nn.Layer, onnx_path: str | os.PathLike[str], example_inputs: Example | Sequence[Example] | None = None
) -> LoadReport:
    """Set a Paddle layer's weights to those of its ONNX file, in place.

    Args:
        example_inputs: as for `export`. Only a file that `export` did not write needs them.

    Raises:
        CheckpointError: the file is of another model; this one is unchanged.
        ModelReadError: the file cannot be read.
    """
    return load_live(LivePaddle(model, example_inputs), onnx_path)


def save_weights(model: paddle.nn.Layer, path: Path) -> None:
    """Save the weights as `<name>.pdparams`, by Paddle."""
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
