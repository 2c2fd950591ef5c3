"""BatchNorm running statistics for predicted weights, so that the file computes something sensible in inference mode.

A GHN predicts weights, not statistics. One forward pass of a copy whose batch norms use the statistics of the batch
gives them all at once, each with the layers before it already normalised.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OnnxGhnError, RuntimeFailure
from onnx_ghn.graph import ComputationGraph, Role
from onnx_ghn.prediction.calibration_inputs import input_batches

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.passes.batch_statistics import Layer

__all__ = ["Calibration", "calibrate_statistics"]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How many statistics were set, and notes on those that were not."""

    n_set: int = 0
    notes: tuple[str, ...] = ()


def calibrate_statistics(
    model: ir.Model, graph: ComputationGraph, source: str | os.PathLike[str] = "noise", *, seed: int = 0
) -> Calibration:
    """Set the running means and variances of a model's batch norms, in place.

    Args:
        model: with its predicted weights injected.
        graph: as it was read from the model.
        source: "noise" for standard normal inputs, or a folder of images.
        seed: of the inputs.

    Raises:
        OptionError: a folder without images. RuntimeFailure: onnxruntime cannot run the model on them. Noise, which
            nobody asked for, stops nothing: there the reason becomes a note.
    """
    found = [parameter for parameter in graph.parameters if parameter.role is Role.statistic]
    statistics = {parameter.name for parameter in found if parameter.op == "BatchNormalization"}
    notes: list[str] = []
    if n_others := len(found) - len(statistics):
        notes.append(f"{n_others} running statistics are kept: their batch norms are written as arithmetic")
    if not statistics:
        return Calibration(notes=tuple(notes))
    try:
        measured = _measured(model, source, seed)
    except OnnxGhnError as error:
        if str(source) != "noise":
            raise
        return Calibration(notes=(*notes, f"{len(statistics)} running statistics are kept: {error}"))
    n_set, unbounded = _set(model, {name: measured[name] for name in sorted(statistics & measured.keys())})
    for names, why in (
        (unbounded, "are not finite under the calibration inputs and are kept, first {}"),
        (sorted(measured.keys() - statistics), "are kept: they are parameters too, first {}"),
        (
            sorted(statistics - measured.keys()),
            "are kept, first {}: calibration reaches batch norms of the main graph that store their statistics and run "
            "in inference mode",
        ),
    ):
        if names:
            notes.append(f"{len(names)} running statistics {why.format(names[0])}")
    return Calibration(n_set, tuple(notes))


def _set(model: ir.Model, measured: Mapping[str, Array]) -> tuple[int, list[str]]:
    """Store statistics in the types that the model has for them: how many, and the names of those that do not fit."""
    from onnx_ghn.onnx_io import inject, stored_tensors

    stored = stored_tensors(model)
    tensors = {}
    unbounded = []
    for name, values in measured.items():
        with np.errstate(over="ignore"):  # beyond what the stored type holds: seen in the next line
            typed = values.astype(stored[name].dtype.numpy())
        if np.isfinite(typed.astype(np.float64)).all() and typed.shape == stored[name].shape:
            tensors[name] = typed
        else:
            unbounded.append(name)
    inject(model, {name: functools.partial(np.asarray, values) for name, values in tensors.items()}, stored)
    return len(tensors), unbounded


def _measured(model: ir.Model, source: str | os.PathLike[str], seed: int) -> dict[str, Array]:
    """Statistics by stored name."""
    from onnx_ghn.onnx_io import write_model
    from onnx_ghn.onnx_io.copying import copy_model
    from onnx_ghn.passes.batch_statistics import UseBatchStatistics
    from onnx_ghn.runtime import open_session

    measured = UseBatchStatistics().call(copy_model(model))
    if not measured.layers:
        return {}
    try:
        with tempfile.TemporaryDirectory(prefix="onnx-ghn-") as folder:
            write_model(measured.model, path := Path(folder) / "model.onnx")
            runs = _run(open_session(path), measured.shapes, measured.changes, source, seed)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RuntimeFailure(
            f"calibration has no room for temporary files ({reason}); set TMPDIR or choose `calibrate` none"
        ) from error
    return _pooled(measured.layers, runs)


def _run(
    session: Any, shapes: dict[str, list[int]], wanted: Sequence[str], source: str | os.PathLike[str], seed: int
) -> list[list[Array]]:
    """What the wanted outputs give on each batch of the first round of inputs that the model takes."""
    from onnx_ghn.runtime import run_session

    failure: RuntimeFailure | None = None
    for batches in input_batches(session, shapes, source, seed):
        try:
            return [run_session(session, feed, wanted) for feed in batches]
        except RuntimeFailure as error:
            failure = failure or error
    raise RuntimeFailure(f"calibration: {failure}; choose `calibrate` none, or give images") from failure


def _pooled(layers: Sequence[Layer], runs: list[list[Array]]) -> dict[str, Array]:
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
