"""BatchNorm running statistics for predicted weights, so that the file computes something sensible in inference mode.

A GHN predicts weights, not statistics. One forward pass of a copy whose batch norms use the statistics of the batch
gives them all at once, each with the layers before it already normalised.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import OnnxGhnError, RuntimeFailure
from onnx_ghn.graph import ComputationGraph, Role
from onnx_ghn.passes.batch_statistics import Layer, use_batch_statistics
from onnx_ghn.prediction.calibration_inputs import input_batches
from onnx_ghn.prediction.coverage import CoverageReport

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["calibrate_statistics"]

Array = npt.NDArray[Any]


def calibrate_statistics(
    model: ir.Model,
    graph: ComputationGraph,
    coverage: CoverageReport,
    source: str | os.PathLike[str] = "noise",
    *,
    seed: int = 0,
) -> int:
    """Set the running means and variances of a model's batch norms, in place.

    Args:
        model: with its predicted weights injected.
        graph: as it was read from the model.
        coverage: gets a note where statistics could not be calibrated.
        source: "noise" for standard normal inputs, or a folder of images.
        seed: of the inputs.

    Returns:
        number of statistics set.

    Raises:
        OptionError: a folder without images. RuntimeFailure: onnxruntime cannot run the model on them. Noise, which
            nobody asked for, stops nothing: there the reason becomes a note.
    """
    from onnx_ghn.onnx_io import inject, stored_tensors

    found = [parameter for parameter in graph.parameters if parameter.role is Role.statistic]
    statistics = {parameter.name for parameter in found if parameter.op == "BatchNormalization"}
    if len(found) > len(statistics):
        coverage.notes.append(
            f"{len(found) - len(statistics)} running statistics are kept: their batch norms are written as arithmetic"
        )
    if not statistics:
        return 0
    try:
        measured = _measured(model, source, seed)
    except OnnxGhnError as error:
        if str(source) != "noise":
            raise
        coverage.notes.append(f"{len(statistics)} running statistics are kept: {error}")
        return 0
    stored = stored_tensors(model)
    tensors = {}
    unbounded = []
    for name in sorted(statistics & measured.keys()):
        with np.errstate(over="ignore"):  # beyond what the stored type holds: seen in the next line
            values = measured[name].astype(stored[name].dtype.numpy())
        if np.isfinite(values.astype(np.float64)).all() and values.shape == stored[name].shape:
            tensors[name] = values
        else:
            unbounded.append(name)
    inject(model, {name: _constant(values) for name, values in tensors.items()})
    if unbounded:
        coverage.notes.append(
            f"{len(unbounded)} running statistics are not finite under the calibration inputs and are kept, "
            f"first {unbounded[0]}"
        )
    double = sorted(measured.keys() - statistics)
    if double:
        coverage.notes.append(f"{len(double)} running statistics are kept: they are parameters too, first {double[0]}")
    elsewhere = sorted(statistics - measured.keys())
    if elsewhere:
        coverage.notes.append(
            f"{len(elsewhere)} running statistics are kept, first {elsewhere[0]}: calibration reaches batch norms of "
            "the main graph that store their statistics and run in inference mode"
        )
    return len(tensors)


def _constant(values: Array) -> Any:
    return lambda: values


def _measured(model: ir.Model, source: str | os.PathLike[str], seed: int) -> dict[str, Array]:
    """Statistics by stored name."""
    from onnx_ghn.onnx_io import write_model
    from onnx_ghn.runtime import open_session

    try:
        with tempfile.TemporaryDirectory(prefix="onnx-ghn-") as folder:
            path = Path(folder) / "model.onnx"
            write_model(model, path)
            layers, shapes = use_batch_statistics(path)
            if not layers:
                return {}
            session = open_session(path)
            return _pooled(layers, _run(session, shapes, [n for layer in layers for n in layer.outputs], source, seed))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RuntimeFailure(
            f"calibration has no room for temporary files ({reason}); set TMPDIR or choose --calibrate none"
        ) from error


def _run(
    session: Any, shapes: dict[str, list[int]], wanted: list[str], source: str | os.PathLike[str], seed: int
) -> list[list[Array]]:
    """What the wanted outputs give on each batch of the first round of inputs that the model takes."""
    from onnx_ghn.runtime import run_session

    failure: RuntimeFailure | None = None
    for batches in input_batches(session, shapes, source, seed):
        try:
            return [run_session(session, feed, wanted) for feed in batches]
        except RuntimeFailure as error:
            failure = failure or error
    raise RuntimeFailure(f"calibration: {failure}; choose --calibrate none, or give images") from failure


def _pooled(layers: list[Layer], runs: list[list[Array]]) -> dict[str, Array]:
    """Mean and variance over all batches, and over all layers that share a statistic."""
    means: dict[str, list[Array]] = {}
    squares: dict[str, list[Array]] = {}
    mean_of: dict[str, str] = {}
    for i, layer in enumerate(layers):
        for run in runs:
            mean, variance = (run[2 * i + j].astype(np.float64) for j in range(2))
            means.setdefault(layer.mean, []).append(mean)
            squares.setdefault(layer.variance, []).append(variance + mean**2)
        mean_of[layer.variance] = layer.mean
    pooled = {name: np.mean(found, axis=0) for name, found in means.items()}
    for name, found in squares.items():
        pooled[name] = np.maximum(np.mean(found, axis=0) - pooled[mean_of[name]] ** 2, 0)
    return pooled
