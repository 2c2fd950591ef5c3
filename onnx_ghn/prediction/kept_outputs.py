"""How far the outputs of a model lie from those of the donor that it inherited from, measured on the same inputs."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.prediction.calibration_inputs import input_batches, input_types
from onnx_ghn.scratch import scratch_folder

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Apart", "outputs_apart"]

_SAMPLES = 4
#: Factors of the inputs: what clips or saturates (ReLU6 where the donor has ReLU) shows on large ones alone.
_SIZES = (1.0, 100.0)
_ROUNDING = 1e-3  # of the largest output, above which a rule was wrong
_LARGEST = 1 << 29  # bytes of weights above which two runs take longer than they are worth


@dataclasses.dataclass(frozen=True)
class Apart:
    """How far outputs lie apart at most, and the largest of the donor's."""

    largest: float
    scale: float

    @property
    def is_rounding(self) -> bool:
        """Whether floating point may be all that sets them apart."""
        return self.largest <= _ROUNDING * self.scale

    @property
    def words(self) -> str:
        """For people."""
        return f"outputs lie {self.largest:.2g} from the donor's at most on noise, whose largest is {self.scale:.2g}"


def outputs_apart(model: ir.Model, donor: ir.Model, seed: int) -> Apart | None:
    """How far the first outputs lie apart; None where the two take other inputs, or cannot be run here.

    Args:
        model: with the inherited weights in it.
        seed: of the inputs, which are drawn.
    """
    from onnx_ghn.onnx_io import stored_tensors, write_model
    from onnx_ghn.onnx_io.copying import copy_model
    from onnx_ghn.runtime import open_session, run_session

    if importlib.util.find_spec("onnxruntime") is None or _interface(model) != _interface(donor):
        return None
    if any(sum(tensor.nbytes for tensor in stored_tensors(each).values()) > _LARGEST for each in (model, donor)):
        return None
    types = input_types(donor)
    if types is None or not model.graph.outputs or not donor.graph.outputs:
        return None
    shapes = {
        value.name or "": [max(dim, 0) if isinstance(dim, int) else 0 for dim in value.shape or ()]
        for value in donor.graph.inputs
        if value.name in types
    }
    declared = {shape[0] for shape in shapes.values() if shape} - {0}
    batch = declared.pop() if len(declared) == 1 else _SAMPLES
    found = []
    try:
        with scratch_folder() as folder:
            feeds = next(iter(input_batches(types, shapes, "noise", seed, batch)))
            for number, each in enumerate((model, donor)):
                path = Path(folder) / f"{number}.onnx"
                write_model(copy_model(each), path, external=True, scratch=True)
                outputs = [each.graph.outputs[0].name or ""]
                # Inputs go by their places: two frameworks call them differently.
                names = [value.name or "" for value in each.graph.inputs if value.name not in each.graph.initializers]
                session = open_session(path, packed=False)
                found.append(
                    [
                        np.asarray(run_session(session, feed, outputs)[0], np.float64)
                        for feed in (
                            {n: _times(feeds[0][m], by) for n, m in zip(names, types, strict=True)} for by in _SIZES
                        )
                    ]
                )
    except (RuntimeFailure, OSError):
        return None  # one of the two does not run on drawn inputs: nothing is measured, and nothing is claimed
    measured = []
    for ours, theirs in zip(*found, strict=True):
        if ours.shape != theirs.shape or not np.isfinite(theirs).all():
            return None
        measured.append(Apart(float(np.abs(ours - theirs).max(initial=0)), float(np.abs(theirs).max(initial=0))))
    return next((apart for apart in measured if not apart.is_rounding), measured[0])


def _times(values: Array, factor: float) -> Array:
    """Inputs of another size; those that are no floats (tokens) as they are."""
    return (values * factor).astype(values.dtype) if values.dtype.kind == "f" else values


def _interface(model: ir.Model) -> list[tuple[str, tuple[object, ...]]]:
    """Types and sizes of a model's inputs, in order; free sizes count as equal."""
    return [
        (
            value.dtype.name if value.dtype is not None else "",
            tuple(dim if isinstance(dim, int) else None for dim in value.shape) if value.shape is not None else (),
        )
        for value in model.graph.inputs
        if value.name not in model.graph.initializers
    ]
