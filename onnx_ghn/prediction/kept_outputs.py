"""How far the outputs of a model lie from those of the donor that it inherited from, measured on the same inputs."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.limits import gib
from onnx_ghn.prediction.calibration_inputs import Feed, input_batches, input_types
from onnx_ghn.scratch import scratch_folder

if TYPE_CHECKING:
    import onnx_ir as ir
    import onnxruntime

__all__ = ["Apart", "Unmeasured", "outputs_apart"]

_Input = tuple[str, tuple[int | None, ...]]  # its type and its sizes

_SAMPLES = 4
#: A factor of the inputs: what clips or saturates (ReLU6 where the donor has ReLU) shows on large ones alone.
_LARGE = 100.0
_ROUNDING = 1e-3  # of the largest output, above which a rule was wrong
_LARGEST = 1 << 29  # bytes of weights above which two runs take longer than they are worth


@dataclasses.dataclass(frozen=True)
class Apart:
    """How far the values of an output lie apart at most, and the largest of the donor's.

    Attributes:
        left_out: number of outputs that were not compared, since their shapes differ.
    """

    largest: float
    scale: float
    left_out: int = 0

    @property
    def is_rounding(self) -> bool:
        """Whether floating point may be all that sets them apart."""
        return self.largest <= _ROUNDING * self.scale

    @property
    def words(self) -> str:
        """For people."""
        told = f"outputs lie {self.largest:.2g} from the donor's at most on noise, whose largest is {self.scale:.2g}"
        if not self.left_out:
            return told
        others = "one more has another shape" if self.left_out == 1 else f"{self.left_out} more have other shapes"
        return f"{told}; {others} and {'was' if self.left_out == 1 else 'were'} not compared"


@dataclasses.dataclass(frozen=True)
class Unmeasured:
    """Why outputs were not compared."""

    why: str

    @property
    def words(self) -> str:
        """For people."""
        return f"how far outputs lie from the donor's was not measured: {self.why}"


def outputs_apart(model: ir.Model, donor: ir.Model, seed: int) -> Apart | Unmeasured:
    """How far outputs lie apart, pair by pair in their order, or why that cannot be measured here.

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
    mine, theirs = _interface(model), _interface(donor)
    if (both_take := _shared(mine, theirs)) is None:
        return Unmeasured(f"the model takes {_told(mine)}, and the donor {_told(theirs)}")
    n_bytes = max(sum(tensor.nbytes for tensor in stored_tensors(each).values()) for each in (model, donor))
    if n_bytes > _LARGEST:
        return Unmeasured(f"weights of {gib(n_bytes)} are too large to run twice, and {gib(_LARGEST)} is the limit")
    types = input_types(donor)
    if types is None:
        return Unmeasured("inputs of their types cannot be drawn")
    if not model.graph.outputs or not donor.graph.outputs:
        return Unmeasured("one of the two has no outputs")
    if (n_mine := len(model.graph.outputs)) != (n_theirs := len(donor.graph.outputs)):
        return Unmeasured(f"the model has {n_mine} outputs, and the donor {n_theirs}")
    both = enumerate(zip(model.graph.outputs, donor.graph.outputs, strict=True))
    places = [place for place, values in both if all(map(_holds_numbers, values))]
    if not places:
        return Unmeasured("no output holds numbers")
    shapes = {name: [max(dim or 0, 0) for dim in sizes] for name, sizes in zip(types, both_take, strict=True)}
    declared = {shape[0] for shape in shapes.values() if shape} - {0}
    batch = declared.pop() if len(declared) == 1 else _SAMPLES
    rows = input_rows(donor)
    found: list[list[list[Array]]] = []
    try:
        with scratch_folder() as folder:
            feed: Feed | None = None
            for number, each in enumerate((model, donor)):
                path = Path(folder) / f"{number}.onnx"
                check_joined_constants(each)
                write_model(copy_model(each), path, external=True, scratch=True)
                outputs = [each.graph.outputs[place].name or "" for place in places]
                # Inputs go by their places: two frameworks call them differently.
                names = dict(zip(types, data_inputs(each), strict=True))
                session = open_session(path, packed=False)
                if feed is None:
                    rounds = input_batches(types, shapes, "noise", seed, batch, rows)
                    feed, small = _first_that_runs(session, names, rounds, outputs)
                else:
                    small = run_session(session, {names[n]: feed[n] for n in types}, outputs)
                large = run_session(session, {names[n]: _times(feed[n], _LARGE) for n in types}, outputs)
                found.append([[np.asarray(output) for output in given] for given in (small, large)])
    except (RuntimeFailure, OSError) as error:
        return Unmeasured(f"the {'donor' if found else 'model'} does not run on noise ({error})")
    return _compared(*found)


def _first_that_runs(
    session: onnxruntime.InferenceSession,
    names: Mapping[str, str],
    rounds: Iterator[list[Feed]],
    outputs: Sequence[str],
) -> tuple[Feed, list[Array]]:
    """The first inputs of a size that a model takes, and what it gives of them. Raises RuntimeFailure: it takes none.

    Args:
        names: of the model's inputs, by those of the rounds.
    """
    from onnx_ghn.runtime import run_session

    failure: RuntimeFailure | None = None
    for feeds in rounds:
        try:
            given = run_session(session, {names[name]: values for name, values in feeds[0].items()}, outputs)
        except RuntimeFailure as error:
            failure = failure or error
        else:
            return feeds[0], given
    assert failure is not None  # there is at least one round
    raise failure


def _compared(mine: list[list[Array]], theirs: list[list[Array]]) -> Apart | Unmeasured:
    """Compare what two models gave of the same inputs.

    Whole numbers (classes, places of boxes) say little of how far weights lie apart: they count where nothing else is
    given.

    Args:
        mine, theirs: for each of the inputs, all outputs.
    """
    pairs = [pair for each in zip(mine, theirs, strict=True) for pair in zip(*each, strict=True)]
    pairs = [pair for pair in pairs if all(one.dtype.kind not in "iub" for one in pair)] or pairs
    alike = [(ours, others) for ours, others in pairs if ours.shape == others.shape]
    if not alike:
        ours, others = pairs[0]
        return Unmeasured(f"outputs have the shapes {list(ours.shape)} and {list(others.shape)}")
    left_out = (len(pairs) - len(alike)) // len(mine)
    measured = []
    for ours, others in ((one.astype(np.float64), other.astype(np.float64)) for one, other in alike):
        if not np.isfinite(others).all():
            return Unmeasured("the donor's outputs on noise are not finite")
        largest, scale = (float(np.abs(values).max(initial=0)) for values in (ours - others, others))
        measured.append(Apart(largest, scale, left_out))
    return next((apart for apart in measured if not apart.is_rounding), measured[0])


def _holds_numbers(value: ir.Value) -> bool:
    """Whether a value is an array of numbers: no text, no sequence and no map."""
    import onnx_ir as ir

    return isinstance(value.type, ir.TensorType) and value.type.dtype != ir.DataType.STRING


def _times(values: Array, factor: float) -> Array:
    """Inputs of another size; those that are no floats (tokens) as they are."""
    return (values * factor).astype(values.dtype) if values.dtype.kind == "f" else values


def _shared(mine: Sequence[_Input], theirs: Sequence[_Input]) -> list[list[int | None]] | None:
    """The sizes of inputs that both models take, None for those that are free in both; None where there are none.

    A size that one of them leaves free, as a batch, is the other's.
    """
    if [(kind, len(sizes)) for kind, sizes in mine] != [(kind, len(sizes)) for kind, sizes in theirs]:
        return None
    pairs = [list(zip(ours, others, strict=True)) for (_, ours), (_, others) in zip(mine, theirs, strict=True)]
    if any(None not in pair and pair[0] != pair[1] for each in pairs for pair in each):
        return None
    return [[ours if ours is not None else others for ours, others in each] for each in pairs]


def _told(interface: Sequence[_Input]) -> str:
    """Inputs for people: FLOAT [?, 3, 32, 32]."""
    return ", ".join(f"{kind} [{', '.join('?' if d is None else str(d) for d in shape)}]" for kind, shape in interface)


def _interface(model: ir.Model) -> list[_Input]:
    """Types and sizes of a model's inputs, in order; None for sizes that are free."""
    return [
        (
            value.dtype.name if value.dtype is not None else "",
            tuple(dim if isinstance(dim, int) else None for dim in value.shape) if value.shape is not None else (),
        )
        for value in model.graph.inputs
        if value.name not in model.graph.initializers
    ]
