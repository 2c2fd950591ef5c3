"""BatchNorm running statistics for predicted weights, so that the file computes something sensible in inference mode.

A GHN predicts weights, not statistics. One forward pass of a copy whose batch norms use the statistics of the batch
gives them all at once, each with the layers before it already normalised.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.graph import ComputationGraph, Role
from onnx_ghn.prediction.options import PredictOptions
from onnx_ghn.prediction.trials import Trials

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.passes.arithmetic_statistics import ArithmeticNorm

__all__ = ["moving_statistics", "n_statistics", "out_of_reach", "set_statistics", "trials_of"]


def n_statistics(graph: ComputationGraph) -> int:
    """How many running statistics a run can measure."""
    return len(_measurable(graph))


def moving_statistics(graph: ComputationGraph) -> set[str]:
    """Names of the running statistics that go with the weights: not of frozen norms, nor inherited ones."""
    return {
        parameter.name
        for parameter in graph.parameters
        if parameter.role is Role.statistic and parameter.singular is None and not parameter.frozen
    }


def trials_of(graph: ComputationGraph, options: PredictOptions, batch: int) -> Trials:
    """Runs of the model that a graph was read from, on the inputs of the options.

    Statistics that stay as they are normalise there, as they do in inference mode.

    Args:
        batch: how many samples to take where the model lets us choose.
    """
    left = {parameter.name for parameter in graph.parameters if parameter.role is Role.statistic and parameter.frozen}
    return Trials(options.calibrate, options.seed, batch, _arithmetic_norms(graph, left), left)


def _measurable(graph: ComputationGraph) -> set[str]:
    moving = moving_statistics(graph)
    out_of_reach = {name for norm in graph.norms if norm.obstacle for name in (norm.mean, norm.variance)}
    written = {name for norm in graph.norms if norm.axis is not None for name in (norm.mean, norm.variance)}
    return {
        parameter.name
        for parameter in graph.parameters
        if parameter.name in moving
        and (parameter.op == "BatchNormalization" or parameter.name in written)
        and parameter.name not in out_of_reach
    }


def _arithmetic_norms(graph: ComputationGraph, left: set[str]) -> list[ArithmeticNorm]:
    """The norms that a run has to find in the arithmetic of the model, but for those whose statistics are left."""
    from onnx_ghn.passes.arithmetic_statistics import ArithmeticNorm

    return [
        ArithmeticNorm(norm.mean, norm.variance, norm.axis)
        for norm in graph.norms
        if norm.axis is not None and not norm.obstacle and norm.mean not in left
    ]


def out_of_reach(graph: ComputationGraph) -> list[str]:
    """Notes on the running statistics that no run can measure."""
    unmeasured = moving_statistics(graph) - _measurable(graph)
    reasons = {
        name: norm.obstacle for norm in graph.norms if norm.obstacle for name in (norm.mean, norm.variance) if name
    }
    of_reason: dict[str, list[str]] = {}
    for name in sorted(unmeasured):
        reason = reasons.get(name, "no norm is found that normalises by it")
        of_reason.setdefault(reason, []).append(name)
    return [
        f"{len(names)} running statistics are kept, first {names[0]}: {reason}" for reason, names in of_reason.items()
    ]


def set_statistics(model: ir.Model, graph: ComputationGraph, measured: Mapping[str, Array]) -> list[str]:
    """Set the running means and variances of a model's batch norms, in place; notes on those that were not.

    Args:
        model: with its predicted weights injected.
        graph: as it was read from the model.
        measured: by stored name.
    """
    statistics = _measurable(graph)
    unbounded = _set(model, {name: measured[name] for name in sorted(statistics & measured.keys())})
    notes = []
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
    return notes


def _set(model: ir.Model, measured: Mapping[str, Array]) -> list[str]:
    """Store statistics in the types that the model has for them; the names of those that do not fit."""
    from onnx_ghn.onnx_io import inject, stored_tensors

    stored = stored_tensors(model)
    tensors = {}
    unbounded = []
    for name, values in measured.items():
        with np.errstate(over="ignore"):  # beyond what the stored type holds: seen in the next line
            typed = values.astype(stored[name].dtype.numpy())
        if np.isfinite(typed.astype(np.float64)).all() and typed.size == math.prod(stored[name].shape):
            tensors[name] = typed.reshape(stored[name].shape)  # arithmetic stores them as 1 × C × 1 × 1, say
        else:
            unbounded.append(name)
    inject(model, {name: functools.partial(np.asarray, values) for name, values in tensors.items()}, stored)
    return unbounded
