"""Multiply-accumulates of one run: of models whose shapes, or turns of whose loops, nothing but a run tells."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.profiling.lost_data import completed
from onnx_ghn.profiling.measuring import open_runnable
from onnx_ghn.profiling.operators import measured_operators
from onnx_ghn.profiling.recording import recorded_runs
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import model_spec

__all__ = ["macs_of_a_run"]


def macs_of_a_run(
    path: str | os.PathLike[str], scratch: Path, *, shapes: Mapping[str, Sequence[int]], sizes: Mapping[str, int]
) -> int:
    """Multiply-accumulates for a batch of one, on drawn inputs; loops count as often as they turn.

    A graph that reshapes to a batch of another size runs on that, and what it costs is divided by it.

    Args:
        scratch: a folder for zeros in the place of external data that are lost.
        shapes, sizes: of inputs, and of symbols of their shapes, where the model leaves them free.

    Raises:
        RuntimeFailure: onnxruntime cannot run the model, or is not installed.
        OptionError: an input that is no tensor.
    """
    spec = model_spec(path, allow_absent=True)
    name = completed(spec.path, scratch) if spec.is_incomplete else spec.path
    of_one = {given: (1, *shape[1:]) for given, shape in shapes.items()}
    declared = {given: tuple(shape) for given, shape in shapes.items()}
    attempts = [
        (Point(batch=1, optimization="basic", sizes=tuple(sizes.items())), Settings(shapes=of_one)),
        (Point(optimization="basic", sizes=tuple(sizes.items())), Settings(shapes=declared)),
    ]
    failure: RuntimeFailure | None = None
    for point, settings in attempts:
        try:
            runnable = open_runnable(name, spec.inputs, point, settings)
        except RuntimeFailure as error:
            failure = failure or error
            continue
        (trace,), nodes = recorded_runs(name, runnable.model, [runnable.feed], point, settings)
        batches = {array.shape[0] for array in runnable.feed.values() if array.ndim}
        share = batches.pop() if point.batch is None and len(batches) == 1 else 1
        return measured_operators(trace, nodes, None).macs // share
    assert failure is not None  # both have failed
    raise failure
