"""Equinox: an eqx.Module is exported by jax2onnx."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from onnx_ghn.errors import OptionError
from onnx_ghn.exporters import jax_arrays
from onnx_ghn.exporters.bridge import Bridge
from onnx_ghn.exporters.initializing import Initialization
from onnx_ghn.prediction.options import PredictKeywords, PredictOptions

if TYPE_CHECKING:
    import equinox

    from onnx_ghn.ghn import GHN, ArrayGHN

__all__ = ["EquinoxModel", "LiveEquinox", "export", "initialize", "initialized", "load", "save_weights"]


@dataclasses.dataclass
class EquinoxModel:
    """Holds an eqx.Module. A module cannot be changed in place, so `load` puts a new one here.

    Attributes:
        module: takes and returns arrays. Layers whose state is passed separately (eqx.nn.BatchNorm) are not supported.
        batched: the module takes a single example, and is exported for a batch of them.
    """

    module: equinox.Module
    batched: bool = True


class LiveEquinox(jax_arrays.LiveTree["equinox.Module"]):
    """Adapts an `EquinoxModel` to `roundtrip.LiveModel`.

    Args:
        example_inputs: an array or a shape, or a list of them. The batch comes first where the model is `batched`.
    """

    framework = "equinox"

    def __init__(self, model: EquinoxModel, example_inputs: object = None) -> None:
        self.exporter = jax_arrays.exporter_name("equinox")
        if not isinstance(model, EquinoxModel):
            raise OptionError(f"a {type(model).__name__} is no EquinoxModel(module)")
        self._model, self._inputs = model, example_inputs

    def tree(self) -> equinox.Module:
        """The module."""
        return self._model.module

    def replace(self, tree: equinox.Module) -> None:
        """Put another module in its place."""
        self._model.module = tree

    def trainable(self) -> Set[str]:
        """All floating-point arrays, since Equinox does not mark trainable ones."""
        return self.leaves().keys()

    def convert(self, folder: Path) -> Path:
        """Convert the module in inference mode, by jax2onnx."""
        import equinox
        import jax

        module = equinox.nn.inference_mode(self._model.module)
        function = jax.vmap(module) if self._model.batched else module
        name = type(self._model.module).__name__
        return jax_arrays.convert(function, self._inputs, folder / "model.onnx", name)


_bridge = Bridge(LiveEquinox)
export, load, initialize = _bridge.export, _bridge.load, _bridge.initialize


def initialized(
    module: equinox.Module,
    example_inputs: object,
    options: PredictOptions | None = None,
    *,
    ghn: str | os.PathLike[str] | GHN | ArrayGHN | None = None,
    batched: bool = True,
    **changes: Unpack[PredictKeywords],
) -> tuple[equinox.Module, Initialization]:
    """A new module with predicted weights, and what was predicted. The given module stays as it is.

    Args:
        example_inputs: an array or a shape, or a list of them. The batch comes first where the model is `batched`.
        options, ghn, changes: as for `initialize`.
        batched: see `EquinoxModel`.

    Raises:
        OnnxGhnError: see `initialize`.
    """
    model = EquinoxModel(module, batched)
    report = initialize(model, example_inputs, options, ghn=ghn, **changes)
    return model.module, report


def save_weights(model: EquinoxModel, path: Path) -> None:
    """Save the weights as `<name>.eqx`, by Equinox's `tree_serialise_leaves`."""
    import equinox

    equinox.tree_serialise_leaves(path, model.module)
