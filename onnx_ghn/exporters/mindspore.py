"""MindSpore: an nn.Cell is exported by MindSpore's own exporter."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.errors import GraphError, OnnxGhnError, OptionError
from onnx_ghn.exporters.optional_imports import require
from onnx_ghn.exporters.output import captured
from onnx_ghn.exporters.reports import ExportReport, LoadReport
from onnx_ghn.exporters.roundtrip import INPUTS_NEEDED, export_live, load_live
from onnx_ghn.exporters.weight_map import Array

if TYPE_CHECKING:
    from mindspore import Tensor, nn

__all__ = ["LiveCell", "export", "load", "save_weights"]


class LiveCell:
    """Adapts a MindSpore cell to `roundtrip.LiveModel`.

    Args:
        example_inputs: a mindspore.Tensor, or a list of them.
    """

    framework = "mindspore"
    numbered = False

    def __init__(self, model: nn.Cell, example_inputs: Tensor | Sequence[Tensor] | None = None) -> None:
        mindspore = require("mindspore", "mindspore")
        if not isinstance(model, mindspore.nn.Cell):
            raise OptionError(f"a {type(model).__name__} is no mindspore.nn.Cell")
        self.exporter = f"mindspore {mindspore.__version__}"
        self._model, self._inputs = model, example_inputs
        self._weights = {name: p for name, p in model.parameters_and_names() if "Float" in str(p.dtype)}

    def read(self) -> dict[str, Array]:
        """Copies of parameters and moving statistics."""
        return {name: np.array(parameter.asnumpy()) for name, parameter in self._weights.items()}

    def write(self, values: Mapping[str, Array]) -> None:
        """Set weights in place."""
        import mindspore

        for name, value in values.items():
            self._weights[name].set_data(mindspore.Tensor(np.ascontiguousarray(value)))

    def trainable(self) -> Set[str]:
        """Parameters that take a gradient."""
        return {name for name, parameter in self._weights.items() if parameter.requires_grad}

    def convert(self, folder: Path) -> Path:
        """Convert the cell in inference mode, by MindSpore's exporter."""
        import mindspore

        if self._inputs is None:
            raise OptionError(INPUTS_NEEDED)
        inputs = self._inputs if isinstance(self._inputs, list | tuple) else [self._inputs]
        path = folder / "model.onnx"
        name = type(self._model).__name__
        with captured():
            try:
                with _inference(self._model):
                    mindspore.export(self._model, *inputs, file_name=str(path), file_format="ONNX")
            except OnnxGhnError:
                raise
            except Exception as error:  # whatever a foreign cell's construct raises, too
                first = str(error).strip().partition("\n")[0]
                raise GraphError(f"{name}: MindSpore cannot export it ({type(error).__name__}: {first})") from error
        return path


def export(
    model: nn.Cell, path: str | os.PathLike[str], example_inputs: Tensor | Sequence[Tensor], *, force: bool = False
) -> ExportReport:
    """Write a cell in inference mode as ONNX, with a map of its weights. The cell keeps its own modes.

    Args:
        example_inputs: a mindspore.Tensor, or a list of them.
        force: overwrite `path`.

    Raises:
        GraphError: MindSpore cannot export the cell.
        ModelWriteError: the file exists, or cannot be written.
        OptionError: MindSpore is not installed.
    """
    return export_live(LiveCell(model, example_inputs), path, force=force)


def load(
    model: nn.Cell, onnx_path: str | os.PathLike[str], example_inputs: Tensor | Sequence[Tensor] | None = None
) -> LoadReport:
    """Set a cell's weights to those of its ONNX file, in place.

    Args:
        example_inputs: as for `export`. Only a file that `export` did not write needs them.

    Raises:
        CheckpointError: the file is of another model; this one is unchanged.
        ModelReadError: the file cannot be read.
    """
    return load_live(LiveCell(model, example_inputs), onnx_path)


def save_weights(model: nn.Cell, path: Path) -> None:
    """Save the weights as `<name>.ckpt`, by MindSpore."""
    import mindspore

    mindspore.save_checkpoint(model, str(path))


@contextlib.contextmanager
def _inference(model: nn.Cell) -> Iterator[None]:
    modes = [(cell, cell.training) for _, cell in model.cells_and_names()]
    model.set_train(False)
    try:
        yield
    finally:
        for cell, training in modes:
            cell.training = training
