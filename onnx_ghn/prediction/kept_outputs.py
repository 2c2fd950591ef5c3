"""How far the outputs of a model lie from those of the donor that it inherited from, measured on the same inputs."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.limits import gib
from onnx_ghn.prediction.calibration_inputs import input_batches, input_types
from onnx_ghn.scratch import scratch_folder

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Apart", "Unmeasured", "outputs_apart"]

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


@dataclasses.dataclass(frozen=True)
class Unmeasured:
    """Why outputs were not compared."""

    why: str

    @property
    def words(self) -> str:
        """For people."""
        return f"how far outputs lie from the donor's was not measured: {self.why}"


def outputs_apart(model: ir.Model, donor: ir.Model, seed: int) -> Apart | Unmeasured:
    """How far the first outputs lie apart, or why that cannot be measured here.

    Args:
        model: with the inherited weights in it.
        seed: of the inputs, which are drawn.
    """
    from onnx_ghn.onnx_io import stored_tensors, write_model
    from onnx_ghn.onnx_io.copying import copy_model
    from onnx_ghn.onnx_io.indexed_tables import input_rows
    from onnx_ghn.onnx_io.inputs_read import data_inputs
    from onnx_ghn.passes.joined_constants import check_joined_constants
    from onnx_ghn.runtime import open_session, run_session

    if importlib.util.find_spec("onnxruntime") is None:
        return Unmeasured("onnxruntime is not installed")
    if (mine := _interface(model)) != (theirs := _interface(donor)):
        return Unmeasured(f"the model takes {_told(mine)}, and the donor {_told(theirs)}")
    n_bytes = max(sum(tensor.nbytes for tensor in stored_tensors(each).values()) for each in (model, donor))
    if n_bytes > _LARGEST:
        return Unmeasured(f"weights of {gib(n_bytes)} are too large to run twice, and {gib(_LARGEST)} is the limit")
    types = input_types(donor)
    if types is None:
        return Unmeasured("inputs of their types cannot be drawn")
    if not model.graph.outputs or not donor.graph.outputs:
        return Unmeasured("one of the two has no outputs")
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
            feeds = next(iter(input_batches(types, shapes, "noise", seed, batch, input_rows(donor))))
            for number, each in enumerate((model, donor)):
                path = Path(folder) / f"{number}.onnx"
                check_joined_constants(each)
                write_model(copy_model(each), path, external=True, scratch=True)
                outputs = [each.graph.outputs[0].name or ""]
                # Inputs go by their places: two frameworks call them differently.
                names = data_inputs(each)
                session = open_session(path, packed=False)
                found.append(
                    [
                        np.asarray(run_session(session, feed, outputs)[0], np.float64)
                        for feed in (
                            {n: _times(feeds[0][m], by) for n, m in zip(names, types, strict=True)} for by in _SIZES
                        )
                    ]
                )
    except (RuntimeFailure, OSError) as error:
        return Unmeasured(f"the {'donor' if found else 'model'} does not run on noise ({error})")
    measured = []
    for ours, theirs in zip(*found, strict=True):
        if ours.shape != theirs.shape:
            return Unmeasured(f"outputs have the shapes {list(ours.shape)} and {list(theirs.shape)}")
        if not np.isfinite(theirs).all():
            return Unmeasured("the donor's outputs on noise are not finite")
        measured.append(Apart(float(np.abs(ours - theirs).max(initial=0)), float(np.abs(theirs).max(initial=0))))
    return next((apart for apart in measured if not apart.is_rounding), measured[0])


def _times(values: Array, factor: float) -> Array:
    """Inputs of another size; those that are no floats (tokens) as they are."""
    return (values * factor).astype(values.dtype) if values.dtype.kind == "f" else values


def _told(interface: list[tuple[str, tuple[object, ...]]]) -> str:
    """Inputs for people: FLOAT [?, 3, 32, 32]."""
    return ", ".join(f"{kind} [{', '.join('?' if d is None else str(d) for d in shape)}]" for kind, shape in interface)


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
