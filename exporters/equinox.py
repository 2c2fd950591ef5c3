"""Equinox: eqx.Module trees, by jax2onnx."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import OptionError
from onnx_ghn.exporters import jax_arrays
from onnx_ghn.exporters.reports import ExportReport, LoadReport
from onnx_ghn.exporters.roundtrip import export_live, load_live

if TYPE_CHECKING:
    import equinox

__all__ = ["EquinoxModel", "LiveEquinox", "export", "load", "save_weights"]

Array = npt.NDArray[Any]


@dataclasses.dataclass
class EquinoxModel:
    """An eqx.Module, which cannot be changed in place: `load` puts a new one here.

    Attributes:
        module: the module; stateful layers (eqx.nn.BatchNorm) are not exported by jax2onnx.
        batched: its call takes one example: export it over a batch.
    """

    module: equinox.Module
    batched: bool = True


class LiveEquinox:
    """An `EquinoxModel` for `roundtrip`."""

    framework = "equinox"
    numbered = False

    def __init__(self, model: EquinoxModel, example_inputs: Any = None) -> None:
        self.exporter = jax_arrays.exporter_name("equinox")
        if not isinstance(model, EquinoxModel):
            raise OptionError(f"a {type(model).__name__} is no EquinoxModel(module)")
        self._model, self._inputs = model, example_inputs

    def _leaves(self) -> dict[str, Any]:
        import jax

        leaves = jax.tree_util.tree_leaves_with_path(self._model.module)
        return {jax_arrays.path_name(path): leaf for path, leaf in leaves if jax_arrays.is_weight(leaf)}

    def read(self) -> dict[str, Array]:
        """Copies of all arrays of floats."""
        return {name: np.array(leaf) for name, leaf in self._leaves().items()}

    def write(self, values: Mapping[str, Array]) -> None:
        """Put a module with these arrays in the place of the old one."""
        import jax

        def new(path: Any, leaf: Any) -> Any:
            name = jax_arrays.path_name(path)
            return jax_arrays.like(values[name], leaf) if name in values else leaf

        self._model.module = jax.tree_util.tree_map_with_path(new, self._model.module)

    def trainable(self) -> Set[str]:
        """All arrays of floats: Equinox marks none."""
        return self._leaves().keys()

    def convert(self, folder: Path) -> Path:
        """In inference mode, by jax2onnx."""
        import equinox
        import jax

        if self._inputs is None:
            raise OptionError("the model has to be exported once more, to compare: give example_inputs")
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
