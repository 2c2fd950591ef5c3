"""MindSpore: nn.Cell, by its own exporter."""

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
    from mindspore import nn

__all__ = ["LiveCell", "export", "load", "save_weights"]

Array = npt.NDArray[Any]


class LiveCell:
    """A MindSpore cell for `roundtrip`.

    Args:
        example_inputs: a mindspore.Tensor, or a list of such.
    """

    framework = "mindspore"
    numbered = False

    def __init__(self, model: nn.Cell, example_inputs: Any = None) -> None:
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
        """Set them in place."""
        import mindspore

        for name, value in values.items():
            self._weights[name].set_data(mindspore.Tensor(np.ascontiguousarray(value)))

    def trainable(self) -> Set[str]:
        """Parameters that take a gradient."""
        return {name for name, parameter in self._weights.items() if parameter.requires_grad}

    def convert(self, folder: Path) -> Path:
        """By mindspore's exporter, in inference mode."""
        import mindspore

        if self._inputs is None:
            raise OptionError("the model has to be exported once more, to compare: give example_inputs")
        several: Sequence[Any] = self._inputs if isinstance(self._inputs, list | tuple) else [self._inputs]
        path = folder / "model.onnx"
        name = type(self._model).__name__
        with captured():
            try:
                with _inference(self._model):
                    mindspore.export(self._model, *several, file_name=str(path), file_format="ONNX")
            except OnnxGhnError:
                raise
            except Exception as error:  # whatever a foreign cell's construct raises, too
                first = str(error).strip().partition("\n")[0]
                raise GraphError(f"{name}: MindSpore cannot export it ({type(error).__name__}: {first})") from error
        return path


def export(model: nn.Cell, path: str | os.PathLike[str], example_inputs: Any, *, force: bool = False) -> ExportReport:
    """Write a cell in inference mode as ONNX, each of its weights traced; its modes stay as they are.

    Args:
        example_inputs: a mindspore.Tensor, or a list of such.
        force: overwrite `path`.

    Raises:
        GraphError: MindSpore cannot export it. ModelWriteError. OptionError: it is not installed.
    """
    return export_live(LiveCell(model, example_inputs), path, force=force)


def load(model: nn.Cell, onnx_path: str | os.PathLike[str], example_inputs: Any = None) -> LoadReport:
    """Set a cell's weights to those of an ONNX file of it, in place.

    Args:
        example_inputs: as of `export`, for a file that it did not write.

    Raises:
        CheckpointError: the file is of another model; this one is unchanged. ModelReadError.
    """
    return load_live(LiveCell(model, example_inputs), onnx_path)


def save_weights(model: nn.Cell, path: Path) -> None:
    """As MindSpore does, `<name>.ckpt`."""
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
