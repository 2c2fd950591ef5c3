"""Points that differ in the shapes of their inputs alone, measured in one process and, where it can serve, one session.

What is found is written to a file as it is found, so that a crash or an interruption leaves the points before it.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from typing import BinaryIO

from onnx_ghn.errors import OnnxGhnError
from onnx_ghn.profiling.measuring import open_runnable, timed_point, with_operators
from onnx_ghn.profiling.own_process import pin
from onnx_ghn.profiling.report import Machine, PointResult
from onnx_ghn.profiling.runnable import Runnable
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import InputSpec
from onnx_ghn.profiling.waiting_runs import recorded_point

__all__ = ["kept_points", "measure_together"]


def measure_together(
    path: str,
    specs: Sequence[InputSpec],
    points: Sequence[Point],
    settings: Settings,
    machine: Machine | None,
    trace: bool,
    kept: str,
) -> None:
    """Measure points one after the other: latencies first, then operators, so that recording disturbs none.

    A point that fails has its error, and the others go on.

    Args:
        kept: the file that results are written to; `kept_points` reads it.
    """
    pin(settings.pin)
    shared: Runnable | None = None
    measured: list[tuple[int, PointResult, Runnable]] = []
    with open(kept, "wb") as file:
        for number, point in enumerate(points):
            try:
                runnable = open_runnable(path, specs, point, settings, shared)
                found = timed_point(runnable, specs, point, settings, machine)
            except OnnxGhnError as error:
                _keep(file, number, PointResult(point, str(error)))
                continue
            if runnable.model == path:
                shared = shared or runnable
            else:
                runnable.session = None  # of a copy with other declared shapes, which serves nobody else
            measured.append((number, found, runnable))
            _keep(file, number, found)
        for _, _, runnable in measured:
            runnable.session = None
        if settings.operators:
            _operators(path, measured, settings, machine, trace, file)


def kept_points(kept: str, n_points: int) -> list[PointResult | None]:
    """The points that were measured, in order; None for those that were not reached."""
    found: list[PointResult | None] = [None] * n_points
    if not os.path.exists(kept):
        return found
    with open(kept, "rb") as file:
        while True:
            try:
                number, result = pickle.load(file)
            except (EOFError, pickle.UnpicklingError):  # the end, or a record that was cut off
                return found
            found[number] = result


def _operators(
    path: str,
    measured: Sequence[tuple[int, PointResult, Runnable]],
    settings: Settings,
    machine: Machine | None,
    trace: bool,
    file: BinaryIO,
) -> None:
    own = [[one] for one in measured if one[2].model != path]
    for group in [[one for one in measured if one[2].model == path], *own]:
        if not group:
            continue
        try:
            feeds = [runnable.feed for _, _, runnable in group]
            traces, nodes = recorded_point(path, group[0][2].model, feeds, group[0][1].point, settings)
        except OnnxGhnError as error:
            for number, found, _ in group:
                _keep(file, number, PointResult(found.point, str(error)))
            continue
        for (number, found, _), recorded in zip(group, traces, strict=True):
            _keep(file, number, with_operators(found, recorded, nodes, machine, trace))


def _keep(file: BinaryIO, number: int, found: PointResult) -> None:
    pickle.dump((number, found), file)
    file.flush()
