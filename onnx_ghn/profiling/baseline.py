"""An earlier measurement that a model is held against: the JSON output of a profile.

Its runs are not paired with those of today, and neighbouring runs resemble each other, as a machine drifts. So each
side is resampled by itself, in blocks of a twentieth of its measurement (Künsch 1989, circular as Politis and Romano
1992): an interval from single runs would be too narrow. What differs from one process to the next is in neither sample.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OptionError
from onnx_ghn.profiling.feeds import Inputs
from onnx_ghn.profiling.report import Check, PointResult
from onnx_ghn.profiling.settings import Point
from onnx_ghn.profiling.slowdowns import LEAST_RUNS, slowdown_check, slower_by
from onnx_ghn.reading import read_regular

__all__ = ["Baseline", "ratio_of_separate_medians", "read_baseline"]

_MAX_BYTES = 1 << 28
_N_BLOCKS = 20  # of a sample
_RESAMPLES = 1000
_AT_ONCE = 1 << 22  # figures of resamples in memory
_AXES = ("provider", "optimization", "threads", "inter_threads", "streams")


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A point of the baseline."""

    point: Point  # with the batch that was run
    inputs: Inputs
    samples_ms: Array  # (n,)


@dataclasses.dataclass(frozen=True)
class Baseline:
    """The points of an earlier measurement."""

    path: str
    processor: str
    entries: tuple[_Entry, ...]

    def check(self, point: Point, candidates: Iterable[Inputs], processor: str) -> None:
        """Refuse a baseline that says nothing of a point that is going to be measured.

        Args:
            candidates: inputs that the point may be run on.
            processor: of this machine.

        Raises:
            OptionError: it is of another processor, or has no such point, or that on inputs of other shapes.
        """
        if self.processor != processor:
            raise OptionError(
                f"`fail_slower_than` {self.path}: was measured on {self.processor}, this is {processor}; measure the "
                "baseline here"
            )
        alike = self._alike(point)
        if not alike:
            known = "; ".join(entry.point.label for entry in self.entries) or "none that was measured"
            raise OptionError(
                f"`fail_slower_than` {self.path}: has no point {point.label}; its points are {known}; measure the "
                "baseline with the same options"
            )
        shapes = list(candidates)
        if not any(entry.inputs == one for entry in alike for one in shapes):
            raise OptionError(
                f"`fail_slower_than` {self.path}: at {point.label} it ran on {_listed(alike[0].inputs)}, this model "
                f"takes {_listed(shapes[0])}; measure the baseline on the same inputs"
            )

    def held(self, found: PointResult, percent: float, seed: int) -> Check:
        """Hold a point to its own in the baseline; `seed` is that of the bootstrap."""
        assert found.latency is not None  # an estimate is refused before
        inputs = {info.name: (info.dtype, info.shape) for info in found.inputs}
        entry = next((one for one in self._alike(found.point) if one.inputs == inputs), None)
        check = Check(found.point, slower_by(percent), False, "", source="baseline")
        if entry is None:
            told = f"it ran on {_listed(inputs)}, which {self.path} did not; fix the shapes of the inputs"
            return dataclasses.replace(check, told=told)
        samples = np.asarray(found.latency.samples_ms)  # (n,)
        if len(samples) < LEAST_RUNS:
            told = f"{len(samples)} runs are too few to compare; {LEAST_RUNS} are needed: measure for longer"
            return dataclasses.replace(check, told=told)
        ratio = ratio_of_separate_medians(samples, entry.samples_ms, seed)
        return slowdown_check(found.point, ratio, percent, f"the baseline {self.path}", "baseline")

    def _alike(self, point: Point) -> list[_Entry]:
        return [
            entry
            for entry in self.entries
            if all(getattr(entry.point, axis) == getattr(point, axis) for axis in _AXES)
            and point.batch in (None, entry.point.batch)
        ]


def ratio_of_separate_medians(model: Array, baseline: Array, seed: int) -> tuple[float, float, float]:
    """The ratio of the medians of two samples (n,) and (m,) in order of time, and its 95 % interval."""
    rng = np.random.default_rng(seed)
    ratios = _medians(model, rng) / _medians(baseline, rng)  # (resamples,)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(np.median(model) / np.median(baseline)), float(low), float(high)


def _medians(sample: Array, rng: np.random.Generator) -> Array:
    """Medians of resamples of whole blocks, which may go over the sample's end to its begin."""
    n = len(sample)
    length = math.ceil(n / _N_BLOCKS)
    found = []
    for _ in range(0, _RESAMPLES, step := max(1, _AT_ONCE // n)):
        starts = rng.integers(0, n, (min(step, _RESAMPLES), math.ceil(n / length), 1))
        places = (starts + np.arange(length)) % n  # (resamples, blocks, length)
        found.append(np.median(sample[places.reshape(len(places), -1)[:, :n]], axis=1))
    return np.concatenate(found)[:_RESAMPLES]


def read_baseline(path: str | os.PathLike[str]) -> Baseline:
    """Read what `ProfileReport.to_dict` gave, written as JSON.

    Raises:
        OptionError: the file cannot be read, is nothing of the kind, or has too few runs.
    """
    name = os.fspath(path)
    try:
        told = json.loads(read_regular(path, _MAX_BYTES))
    except OSError as error:
        raise OptionError(f"`fail_slower_than` {name}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise OptionError(f"`fail_slower_than` {name}: is no JSON ({error}); write it by profile --json") from error
    try:
        entries = tuple(_entry(point) for point in told["points"] if point["error"] is None)
        processor = told["system"]["processor"]
    except (KeyError, TypeError, ValueError, OverflowError, OptionError) as error:
        raise OptionError(
            f"`fail_slower_than` {name}: is not what profile --json writes ({type(error).__name__}: {error}); write it "
            "by profile --json, without --estimate"
        ) from error
    for entry in entries:
        if len(entry.samples_ms) < LEAST_RUNS:
            raise OptionError(
                f"`fail_slower_than` {name}: has {len(entry.samples_ms)} runs at {entry.point.label}, {LEAST_RUNS} are "
                "needed; measure the baseline for longer"
            )
    return Baseline(name, str(processor), entries)


def _entry(told: Mapping[str, object]) -> _Entry:
    latency, inputs = told["latency"], told["inputs"]
    if not isinstance(latency, dict) or not isinstance(inputs, list):
        raise TypeError("a point without latency or inputs")
    point = Point(
        batch=_whole(told["batch"]),
        threads=_whole(told["threads"]),
        inter_threads=_whole(told["inter_threads"]),
        streams=_whole(told["streams"]),
        provider=str(told["provider"]),
        optimization=str(told["optimization"]),
    )
    samples = np.asarray(latency["samples_ms"], np.float64)  # (n,)
    if samples.ndim != 1 or not np.all(np.isfinite(samples) & (samples > 0)):
        raise ValueError("samples that are no times")
    shapes = {str(one["name"]): (str(one["dtype"]), tuple(map(_whole, one["shape"]))) for one in inputs}
    return _Entry(point, shapes, samples)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value


def _listed(inputs: Inputs) -> str:
    parts: Sequence[str] = [
        f"{name} {'×'.join(map(str, shape)) or 'scalar'} {dtype}" for name, (dtype, shape) in inputs.items()
    ]
    return ", ".join(parts) or "no inputs"
