"""MindSpore: an nn.Cell is exported by MindSpore's own exporter."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.exporters.bridge import Bridge, input_list, is_shape, restored_modes
from onnx_ghn.exporters.live import LiveModel
from onnx_ghn.exporters.output import captured
from onnx_ghn.exporters.weight_map import Array
from onnx_ghn.installing import require

if TYPE_CHECKING:
    from mindspore import nn

__all__ = ["LiveCell", "export", "initialize", "load", "save_weights"]


class LiveCell(LiveModel):
    """Adapts a MindSpore cell to `roundtrip.LiveModel`.

    Args:
        example_inputs: a mindspore.Tensor or a shape, or a list of them.
    """

    framework = "mindspore"

    def __init__(self, model: nn.Cell, example_inputs: object = None) -> None:
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
            self._weights[name].set_data(mindspore.Tensor(np.array(value, order="C")))

    def trainable(self) -> Set[str]:
        """Parameters that take a gradient."""
        return {name for name, parameter in self._weights.items() if parameter.requires_grad}

    def convert(self, folder: Path) -> Path:
        """Convert the cell in inference mode, by MindSpore's exporter."""
        import mindspore

        inputs = [mindspore.ops.zeros(tuple(given)) if is_shape(given) else given for given in input_list(self._inputs)]
        path = folder / "model.onnx"
        try:
            with captured(), restored_modes(cell for _, cell in self._model.cells_and_names()):
                self._model.set_train(False)
                mindspore.export(self._model, *inputs, file_name=str(path), file_format="ONNX")
        except Exception as error:  # whatever a foreign cell's construct raises, too
            first = str(error).strip().partition("\n")[0]  # its code, and the compiler's stack, follow
            name = type(self._model).__name__
            raise GraphError(f"{name}: MindSpore cannot export it ({type(error).__name__}: {first})") from error
        return path


_bridge = Bridge(LiveCell)
export, load, initialize = _bridge.export, _bridge.load, _bridge.initialize


def save_weights(model: nn.Cell, path: Path) -> None:
    """Save the weights as `<name>.ckpt`, by MindSpore."""
    import mindspore

    mindspore.save_checkpoint(model, str(path))
