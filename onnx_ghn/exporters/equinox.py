"""Equinox: eqx.Module trees, by jax2onnx."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_ghn.errors import OptionError
from onnx_ghn.exporters import jax_arrays
from onnx_ghn.exporters.reports import ExportReport, LoadReport
from onnx_ghn.exporters.roundtrip import export_live, load_live

if TYPE_CHECKING:
    import equinox

__all__ = ["EquinoxModel", "LiveEquinox", "export", "load", "save_weights"]


@dataclasses.dataclass
class EquinoxModel:
    """An eqx.Module, which cannot be changed in place: `load` puts a new one here.

    Attributes:
        module: from arrays to arrays; layers with a state beside them (eqx.nn.BatchNorm) are not supported.
        batched: its call takes one example: export it over a batch.
    """

    module: equinox.Module
    batched: bool = True


class LiveEquinox(jax_arrays.LiveTree):
    """An `EquinoxModel` for `roundtrip`."""

    framework = "equinox"

    def __init__(self, model: EquinoxModel, example_inputs: Any = None) -> None:
        self.exporter = jax_arrays.exporter_name("equinox")
        if not isinstance(model, EquinoxModel):
            raise OptionError(f"a {type(model).__name__} is no EquinoxModel(module)")
        self._model, self._inputs = model, example_inputs

    def tree(self) -> Any:
        """The module."""
        return self._model.module

    def replace(self, tree: Any) -> None:
        """Another module."""
        self._model.module = tree

    def trainable(self) -> Set[str]:
        """All arrays of floats: Equinox marks none."""
        return self.leaves().keys()

    def convert(self, folder: Path) -> Path:
        """In inference mode, by jax2onnx."""
        import equinox
        import jax

        module = equinox.nn.inference_mode(self._model.module)
        function = jax.vmap(module) if self._model.batched else module
        name = type(self._model.module).__name__
        return jax_arrays.convert(function, self._inputs, folder / "model.onnx", name)


def export(
    model: EquinoxModel, path: str | os.PathLike[str], example_inputs: Any, *, force: bool = False
) -> ExportReport:
    """Write an Equinox model in inference mode as ONNX, each of its weights traced.

    Args:
        example_inputs: an array or a shape (with the batch in front, where `batched`), or a list of such.
        force: overwrite `path`.

    Raises:
        GraphError: jax2onnx cannot export it. ModelWriteError. OptionError: equinox or jax2onnx is not installed.
    """
    return export_live(LiveEquinox(model, example_inputs), path, force=force)


def load(model: EquinoxModel, onnx_path: str | os.PathLike[str], example_inputs: Any = None) -> LoadReport:
    """Put a module with the weights of an ONNX file into an `EquinoxModel`.

    Raises:
        CheckpointError: the file is of another model; this one is unchanged. ModelReadError.
    """
    return load_live(LiveEquinox(model, example_inputs), onnx_path)


def save_weights(model: EquinoxModel, path: Path) -> None:
    """As Equinox does, `tree_serialise_leaves`, `<name>.eqx`."""
    import equinox

    equinox.tree_serialise_leaves(path, model.module)
