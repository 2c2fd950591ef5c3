"""Two models in one process: their runs in turn, or the outputs of all their nodes on the same inputs."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.profiling import rewriting
from onnx_ghn.profiling.feeds import Array, Feed, shapes_of
from onnx_ghn.profiling.measuring import open_runnable
from onnx_ghn.profiling.own_process import pin
from onnx_ghn.profiling.ratios import ratio_of_medians
from onnx_ghn.profiling.report import Comparison, Ratio
from onnx_ghn.profiling.sessions import one_line_failures, timed_session
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import InputSpec
from onnx_ghn.profiling.timing import take_turns

if TYPE_CHECKING:
    import onnx
    import onnxruntime

__all__ = ["compare_outputs", "time_pair"]

_OUTPUTS_AT_ONCE = 64  # of nodes: all at once could be more than the memory holds


def time_pair(
    paths: tuple[str, str], specs: tuple[Sequence[InputSpec], Sequence[InputSpec]], point: Point, settings: Settings
) -> Ratio:
    """The p50 of the first model over that of the second. They run in turn, each on inputs from the same seed."""
    pin(settings.pin)
    runs = [open_runnable(path, spec, point, settings).run for path, spec in zip(paths, specs, strict=True)]
    seconds = None if settings.seconds is None else 2 * settings.seconds
    began = time.perf_counter()
    found = take_turns(runs, warmup=settings.warmup, seconds=seconds, iterations=settings.iterations)
    wall_s = time.perf_counter() - began
    model, against = (np.asarray(entry, np.float64) / 1e6 for entry in found)
    ratio, low, high = ratio_of_medians(model, against, settings.seed)
    medians = float(np.median(model)), float(np.median(against))
    return Ratio(point, None, len(model), *medians, ratio, low, high, wall_s)


def compare_outputs(
    paths: tuple[str, str],
    specs: Sequence[InputSpec],
    point: Point,
    settings: Settings,
    *,
    rtol: float = 1e-3,
    atol: float = 1e-5,
) -> Comparison:
    """Compare what the nodes of both models give on the same inputs; nodes are matched by the names of their outputs.

    Neither graph is optimised, so that each node computes what the file says. A value is close where numpy.allclose
    says so, with NaN equal to NaN; max_rel is the largest difference over the largest magnitude of the other
    model's values.

    Raises:
        OptionError: models that have no value's name in common. RuntimeFailure: a model that does not run.
    """
    plain = dataclasses.replace(point, inter_threads=1, streams=1, optimization="none")
    feed = open_runnable(paths[1], specs, plain, settings).feed
    sides = [_exposed(path, feed, plain, settings) for path in paths]
    (values, session), (others, other) = sides
    nodes = dict(values)
    common = [(name, node) for name, node in others if name in nodes]
    if not common:
        raise OptionError(f"{paths[0]} and {paths[1]} have no value's name in common, so nothing can be compared")
    rows: list[dict[str, object]] = []
    for start in range(0, len(common), _OUTPUTS_AT_ONCE):
        part = common[start : start + _OUTPUTS_AT_ONCE]
        names = [name for name, _ in part]
        with one_line_failures("onnxruntime cannot run the model with all outputs"):
            found, expected = session.run(names, feed), other.run(names, feed)
        rows += [
            {"value": name, "node": node.name, "op_type": node.op_type, **_difference(a, b, rtol, atol)}
            for (name, node), a, b in zip(part, map(_as_array, found), map(_as_array, expected), strict=True)
            if a is not None and b is not None
        ]
    first = next((str(row["value"]) for row in rows if not row["close"]), None)
    unmatched = len(nodes) + len(others) - 2 * len(common)
    return Comparison(tuple(rows), first, unmatched, rtol, atol)


def _exposed(
    path: str, feed: Feed, point: Point, settings: Settings
) -> tuple[list[tuple[str, onnx.NodeProto]], onnxruntime.InferenceSession]:
    proto = rewriting.load_structure(path)
    names = {value.name for value in proto.graph.input}
    if not feed.keys() <= names:
        raise RuntimeFailure(
            f"{path}: has no input {sorted(feed.keys() - names)[0]!r}; both models need the same inputs"
        )
    rewriting.set_input_shapes(proto, shapes_of(feed))
    values = rewriting.expose_outputs(proto)
    data, folder = rewriting.serialized(proto, path), os.path.dirname(path) or os.curdir
    return values, timed_session(data, point, settings, folder=folder)[0]


def _as_array(value: object) -> Array | None:
    """A tensor as it is; a sequence of maps of the same keys as their values, N × keys, in the order of the keys."""
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        return None  # a sequence of tensors, or an optional value that is absent
    keys = sorted(value[0])
    if any(sorted(one) != keys for one in value):
        return None
    return np.array([[one[key] for key in keys] for one in value])  # (N, keys)


def _difference(found: Array, expected: Array, rtol: float, atol: float) -> dict[str, object]:
    shape = list(expected.shape)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return {"shape": shape, "max_abs": None, "max_rel": None, "close": False}
    if not np.issubdtype(expected.dtype, np.number) or not expected.size:
        return {"shape": shape, "max_abs": None, "max_rel": None, "close": bool(np.array_equal(found, expected))}
    a, b = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(a - b)
        gap[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0  # infinities that agree
        close = bool(np.allclose(a, b, rtol, atol, equal_nan=True))
    largest, scale = float(gap.max()), float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b)))
    if not np.isfinite(largest):  # JSON has no numbers for these
        return {"shape": shape, "max_abs": None, "max_rel": None, "close": close}
    return {"shape": shape, "max_abs": largest, "max_rel": largest / scale if scale else None, "close": close}
