"""A check that a file computes what an export of a model computes with the weights that were read from the file."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import CheckpointError, RuntimeFailure
from onnx_ghn.onnx_io import inject, stored_tensors, write_model
from onnx_ghn.onnx_io.copying import copy_model
from onnx_ghn.scratch import scratch_folder

if TYPE_CHECKING:
    import onnx_ir as ir
    import onnxruntime

    from onnx_ghn.prediction.calibration_inputs import Feed

__all__ = ["check_same_outputs"]

_RELATIVE = 1e-3  # of the largest value of an output: what other orders of sums differ by
_BATCH = 4


def check_same_outputs(exported: ir.Model, values: Mapping[str, Array], model: ir.Model) -> None:
    """Run both on the same random inputs.

    Args:
        exported: an export of a model; it is not changed.
        values: what its tensors are to hold, by their names in the export.
        model: the file.

    Raises:
        CheckpointError: the outputs differ, or nothing can be run.
    """
    copy = copy_model(exported)
    inject(copy, {name: functools.partial(_given, value) for name, value in values.items()}, stored_tensors(copy))
    try:
        with scratch_folder() as folder:
            sessions = [_session(each, Path(folder), name) for each, name in ((copy, "export"), (model, "file"))]
            ours, theirs = _outputs(*sessions)
    except RuntimeFailure as error:
        raise CheckpointError(
            f"a tool rewrote the file, and it cannot be run to see what it computes: {error}"
        ) from error
    for name, mine, other in zip((each.name for each in model.graph.outputs), ours, theirs, strict=True):
        scale = float(np.abs(other.astype(np.float64)).max(initial=0.0))
        if mine.shape != other.shape or not np.allclose(mine, other, rtol=0, atol=_RELATIVE * scale):
            raise CheckpointError(f"output {name!r} of the file is another one with the weights that were found")


def _given(value: Array) -> Array:
    return value


def _session(model: ir.Model, folder: Path, name: str) -> onnxruntime.InferenceSession:
    from onnx_ghn.runtime import open_session

    path = folder / name / "model.onnx"
    path.parent.mkdir()
    write_model(model, path, scratch=True)
    return open_session(path, packed=False)


def _outputs(
    first: onnxruntime.InferenceSession, second: onnxruntime.InferenceSession
) -> tuple[list[Array], list[Array]]:
    """What two sessions give for inputs that the second declares, of the first sizes that both take."""
    from onnx_ghn.prediction.calibration_inputs import input_batches
    from onnx_ghn.runtime import run_session

    shapes = {
        entry.name: [size if isinstance(size, int) else 0 for size in entry.shape] for entry in second.get_inputs()
    }
    names = [entry.name for entry in first.get_inputs()]
    if names != list(shapes) or len(first.get_outputs()) != len(second.get_outputs()):
        raise RuntimeFailure("its inputs and outputs are others than those of an export of this model")
    failure: RuntimeFailure | None = None
    for feeds in input_batches({entry.name: entry.type for entry in second.get_inputs()}, shapes, "noise", 0, _BATCH):
        feed: Feed = feeds[0]
        try:
            return run_session(first, feed), run_session(second, feed)
        except RuntimeFailure as error:
            failure = failure or error
    raise failure or RuntimeFailure("no inputs fit it")
