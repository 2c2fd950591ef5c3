"""What a prediction gives: arrays by name, what became of each tensor, and the model to write."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_ghn.arrays import Array
from onnx_ghn.graph import ComputationGraph
from onnx_ghn.prediction.coverage import CoverageReport

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.inheritance.inheriting import Inheritance
    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["Prediction"]


class Prediction(Mapping[str, Array]):
    """Predicted tensors by parameter name, each of the stored shape and type, made when it is asked for.

    With them, with the values that they keep, are the parameters that the policy leaves alone, tensors of floats that
    may be learned, single numbers left out, and those that were one with another in the file that was read.

    `prediction[name]` answers for every stored tensor of the written model, whether it is new or not.

    Attributes:
        graph: the computational graph that the GHN read.
        coverage: what became of each tensor, and why.
        model: the model with the new tensors in it (an ir.Model; nothing is written yet).
        ghn_name: the name of the GHN.
        inheritance: what came from donors and how, None without any.
    """

    def __init__(
        self,
        model: ir.Model,
        graph: ComputationGraph,
        tensors: Mapping[str, Callable[[], Array]],
        coverage: CoverageReport,
        ghn_name: str,
        inheritance: Inheritance | None = None,
    ) -> None:
        self.model = model
        self.graph = graph
        self.coverage = coverage
        self.ghn_name = ghn_name
        self.inheritance = inheritance
        self._tensors = tensors

    def __getitem__(self, name: str) -> Array:
        make = self._tensors.get(name)
        return make() if make is not None else self._stored[name].numpy()

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    @functools.cached_property
    def _stored(self) -> dict[str, StoredTensor]:
        from onnx_ghn.onnx_io import stored_tensors

        return stored_tensors(self.model)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"Prediction({self.graph.name!r} by {self.ghn_name}: {len(self)} tensors, {self.coverage!r})"

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> list[Path]:
        """Write the model. Raises ModelWriteError; see `onnx_io.write_model`."""
        from onnx_ghn.onnx_io import write_model

        return write_model(self.model, path, force=force)
