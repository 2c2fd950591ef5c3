"""PaddlePaddle: a paddle.nn.Layer is exported by paddle2onnx."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.exporters.bridge import Bridge, converting, input_list, is_shape, restored_modes
from onnx_ghn.exporters.live import LiveModel
from onnx_ghn.exporters.output import captured
from onnx_ghn.exporters.weight_map import Array
from onnx_ghn.installing import require

if TYPE_CHECKING:
    import paddle

__all__ = ["LivePaddle", "export", "initialize", "load", "save_weights"]

_OPSET = 17


class LivePaddle(LiveModel):
    """Adapts a paddle.nn.Layer to `roundtrip.LiveModel`.

    Args:
        example_inputs: a tensor (whose first axis becomes free), a shape (None for a free axis) or a
            paddle.static.InputSpec, or a list of them.
    """

    framework = "paddle"
    _weights: dict[str, paddle.Tensor]

    def __init__(self, model: paddle.nn.Layer, example_inputs: object = None) -> None:
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
            self._weights[name].set_value(np.array(value, order="C"))  # ascontiguousarray makes a vector of a number

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
            with converting(name, "Paddle"):
                with restored_modes(self._model.sublayers(include_self=True)):
                    self._model.eval()
                    _compute_weights(self._model)
                    paddle.jit.save(self._model, str(saved), self._specs())
                program = saved.with_suffix(".json")
                paddle2onnx.export(
                    str(program if program.exists() else saved.with_suffix(".pdmodel")),
                    str(saved.with_suffix(".pdiparams")),
                    str(path),
                    opset_version=_OPSET,
                    optimize_tool="None",
                )
            if not path.exists():
                raise GraphError(f"{name}: paddle2onnx wrote no file ({output()[-300:]})")
        return path

    def _specs(self) -> list[paddle.static.InputSpec]:
        import paddle

        specs = []
        for number, example in enumerate(input_list(self._inputs)):
            name = f"input_{number}"
            if isinstance(example, paddle.static.InputSpec):
                specs.append(example)
            elif is_shape(example):
                specs.append(paddle.static.InputSpec(list(example), "float32", name))
            else:
                tensor = cast("paddle.Tensor", example)
                specs.append(paddle.static.InputSpec([None, *tensor.shape[1:]], tensor.dtype, name))
        return specs


def _compute_weights(model: paddle.nn.Layer) -> None:
    """Let layers compute what they compute of their weights before each call: weight norms and spectral norms.

    Paddle's own hooks do that for tensors alone, not while a program is made, which holds what was computed last. What
    they compute is called otherwise each time, and here by its layer.
    """
    for layer in model.sublayers(include_self=True):
        for hook in layer._forward_pre_hooks.values():
            if type(hook).__module__.startswith("paddle.nn.utils."):
                hook(layer, ())
                getattr(layer, hook.name).name = f"{layer.full_name()}.{hook.name}"


_bridge = Bridge(LivePaddle)
export, load, initialize = _bridge.export, _bridge.load, _bridge.initialize


def save_weights(model: paddle.nn.Layer, path: Path) -> None:
    """Save the weights as `<name>.pdparams`, by Paddle."""
    import paddle

    paddle.save(model.state_dict(), str(path))
