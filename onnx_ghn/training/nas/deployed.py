"""Networks of a search as they run on this machine: which of the best are fast enough, beside random ones.

Each network runs in a process of its own, in turn with one and the same reference, so that whatever else the machine
does slows both; its latency is the ratio times the reference's, which was measured in several processes first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from onnx_ghn.deepnets1m.export import export_network
from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.json_types import Json
from onnx_ghn.profiling.machine import system_info
from onnx_ghn.profiling.pairs import time_pair
from onnx_ghn.profiling.processes import run_job
from onnx_ghn.profiling.providers import check_available, named_device
from onnx_ghn.profiling.report import Ratio
from onnx_ghn.profiling.settings import Point
from onnx_ghn.profiling.settings import Settings as Measuring
from onnx_ghn.profiling.specs import model_spec
from onnx_ghn.scratch import scratch_folder
from onnx_ghn.training.nas.foresight import Foresight, calibrated_low_ms
from onnx_ghn.training.nas.search import Candidates, SearchResult, Space, intervals, is_better_larger, random_ones
from onnx_ghn.training.nas.settings import Deployed, SearchConfig, ranking_settings
from onnx_ghn.training.results import ResultsFile

__all__ = ["LATENCIES", "Measured", "check_deployed", "measure"]

LATENCIES = "latencies.jsonl"
_FIGURES = ("latency_ms", "low_ms", "high_ms")
_ROUNDS = 5  # processes that measure the reference
#: Half of the 95 % interval of a median of five in median absolute deviations, which one disturbed process does not
#: change much: Student's t of four degrees, the median's error over the mean's, the deviation's over the standard one.
_OF_DEVIATION = 2.776 * 1.2533 * 1.4826 / math.sqrt(_ROUNDS)
_LEAST_PAIRS = 25  # of runs; below, the median of a busy machine says little
_LONGEST_S = 15.0  # for so many
_TIMEOUT_S = 120.0
Ratios = Callable[[str, str, Point, Measuring], Json]  # of two files
LeastMs = Callable[[str], float]  # of a file


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        kept: the best that are fast enough, best first.
        rows: name, chosen (best, random or slow), the predicted property with its 90 % interval, the measured latency
            with its 95 % interval; the kept ones first, then random ones, then those that are too slow.
        front: the rows that no other beats, fastest first.
        n_skipped: of the best, that were foreseen to be too slow and not measured.
        failures: one line for each network that could not be measured.
    """

    kept: Candidates
    rows: list[Json]
    front: list[Json]
    n_skipped: int
    failures: list[str]


def check_deployed(deployed: Deployed) -> Point:
    """The point that is measured.

    Raises:
        OptionError: onnxruntime knows no such provider. RuntimeFailure: no onnxruntime, or one without that provider.
    """
    provider, device = named_device(deployed.provider, Measuring())
    check_available(provider)
    return Point(batch=1, threads=deployed.threads, provider=provider, device=device)


def measure(
    config: SearchConfig,
    deployed: Deployed,
    n_random: int,
    found: SearchResult,
    folder: Path,
    *,
    told: Callable[[int], None] = lambda _: None,
    ratio_of: Ratios | None = None,
    low_ms_of: LeastMs | None = None,
) -> Measured:
    """Go through the ranking until `config.top` networks are fast enough.

    What is measured is kept in the folder; a run that was stopped goes on from there, and chooses as it would have.

    Args:
        deployed: with a limit.
        n_random: random networks within the limits to measure, too.
        told: told how many more are measured.
        ratio_of: measures a file against the reference; by default in a process of its own.
        low_ms_of: foresees the least latency of a file on this machine, in milliseconds; by default the machine's
            calibration, where there is one.

    Raises:
        OptionError: no network is fast enough, or too few are within the limits. RuntimeFailure: the reference, which
            is the first of the ranking, cannot be measured. DataError: a folder of another search or machine.
        ModelWriteError: the folder cannot be written.
    """
    limit_ms = deployed.latency_below
    if limit_ms is None:
        raise ValueError("there is no limit")
    point = check_deployed(deployed)
    randoms = random_ones(found, min(config.top, len(found.good)), n_random, config.seed, "latency_below")
    system = system_info()
    settings = ranking_settings(config) | {"method": config.method, "channels": found.space.channels}
    settings |= {"provider": deployed.provider, "threads": deployed.threads, "seconds": deployed.measured_seconds}
    settings |= {key: system[key] for key in ("processor", "cores", "onnxruntime")}
    with ResultsFile(folder / LATENCIES, settings, _FIGURES) as state, scratch_folder() as scratch:
        low_ms_of = low_ms_of or calibrated_low_ms(point.provider, point.threads)
        clock = _Clock(found.space, point, deployed, state, Path(scratch), told, ratio_of or _ratio, low_ms_of)
        clock.begin(int(found.good.indices[0]))
        # Random ones stay random: none of them is chosen.
        ranking = found.good[~np.isin(found.good.indices, randoms.indices)]
        kept, slow, n_skipped = _walk(ranking, clock, config.top, limit_ms, deployed.most_measured)
        for index in randoms.indices.tolist():
            clock.latency(index)
        records, failures = dict(state.records), clock.failures
    if not kept:
        raise OptionError(
            f"`latency_below` {limit_ms:g}: none of the {len(slow)} networks that were measured of the best is as fast "
            f"({n_skipped} more were foreseen to be too slow); allow more, or raise `most_measured` or `count`"
        )
    groups = {"best": kept, "random": randoms.indices.tolist(), "slow": slow}
    rows = _rows(config, found, groups, records)
    return Measured(found.good[np.isin(found.good.indices, kept)], rows, _front(rows, config.by), n_skipped, failures)


def _walk(good: Candidates, clock: _Clock, top: int, limit_ms: float, most: int) -> tuple[list[int], list[int], int]:
    """The indices of networks that are fast enough and of those that are not, best first; how many were passed over.

    Those that are foreseen to be too slow are passed over, and come after the others where these are not enough.
    """
    kept: list[int] = []
    slow: list[int] = []
    passed_over: list[int] = []
    order = good.indices.tolist()
    known = good.columns.get("latency_ms")
    predicted = {} if known is None else dict(zip(order, known.tolist(), strict=True))
    foresight = Foresight(limit_ms, predicted, clock.low_ms if clock.has_foresight else None)

    def is_enough() -> bool:
        return len(kept) == top or len(kept) + len(slow) == most

    def judge(index: int) -> None:
        record = clock.latency(index)
        if record is not None:
            foresight.learn(index, record["latency_ms"])
            (kept if record["high_ms"] < limit_ms else slow).append(index)

    for index in order:
        if is_enough():
            break
        if foresight.is_too_slow(index):
            passed_over.append(index)
        else:
            judge(index)
    while passed_over and not is_enough():
        judge(passed_over.pop(0))
    rank = {index: place for place, index in enumerate(order)}
    return sorted(kept, key=rank.__getitem__), sorted(slow, key=rank.__getitem__), len(passed_over)


class _Clock:
    """Measures networks against a reference, and keeps what it finds."""

    def __init__(
        self,
        space: Space,
        point: Point,
        deployed: Deployed,
        state: ResultsFile,
        scratch: Path,
        told: Callable[[int], None],
        ratio_of: Ratios,
        low_ms_of: LeastMs | None,
    ) -> None:
        self.failures: list[str] = []
        self._space, self._point, self._state, self._scratch, self._told = space, point, state, scratch, told
        self._settings = Measuring(seconds=deployed.measured_seconds, operators=False)
        self._ratio_of, self._low_ms_of = ratio_of, low_ms_of
        self._reference = 0
        self._level_ms = self._spread = 0.0

    def begin(self, reference: int) -> None:
        """Measure the reference by itself, in several processes: the median, and how far they differ."""
        self._reference = reference
        found = []
        for number in range(_ROUNDS):
            key = f"reference {number}: {self._space.name(reference)}"
            if key not in self._state.records:
                with self._file(reference) as path:
                    ratio = self._ratio_of(path, path, self._point, self._settings)
                p50_ms = (ratio["model_p50_ms"] + ratio["against_p50_ms"]) / 2
                self._state.add(key, {"latency_ms": p50_ms, "low_ms": p50_ms, "high_ms": p50_ms})
            found.append(float(self._state.records[key]["latency_ms"]))
        self._level_ms = float(np.median(found))
        deviation = float(np.median([abs(math.log(value / self._level_ms)) for value in found]))
        self._spread = _OF_DEVIATION * deviation

    def latency(self, index: int) -> Json | None:
        """What the state has of a network, which is measured if need be; None where it cannot be."""
        name = self._space.name(index)
        if name not in self._state.records:
            try:
                with self._file(index) as path, self._file(self._reference) as reference:
                    record = self._scaled(self._ratio_of(path, reference, self._point, self._settings))
            except RuntimeFailure as error:
                record = {"error": str(error)}
            self._state.add(name, record)
            self._told(1)
        found = self._state.records[name]
        if "error" in found:
            self.failures.append(f"{name}: {found['error']}")
            return None
        return found

    @property
    def has_foresight(self) -> bool:
        """Whether `low_ms` can tell."""
        return self._low_ms_of is not None

    def low_ms(self, index: int) -> float:
        """The least latency of a network that is foreseen; 0 of one that the calibration cannot read."""
        assert self._low_ms_of is not None
        key = f"foreseen: {self._space.name(index)}"
        if key not in self._state.records:
            try:
                with self._file(index) as path:
                    low_ms = self._low_ms_of(path)
            except RuntimeFailure:  # which measuring it tells
                low_ms = 0.0
            self._state.add(key, dict.fromkeys(_FIGURES, low_ms))
        return float(self._state.records[key]["low_ms"])

    def _scaled(self, ratio: Json) -> Json:
        """The ratio times the reference's latency; both intervals, as they are independent."""
        latency_ms = ratio["ratio"] * self._level_ms
        below, above = math.log(ratio["ratio"] / ratio["low"]), math.log(ratio["high"] / ratio["ratio"])
        low_ms = latency_ms * math.exp(-math.hypot(below, self._spread))
        high_ms = latency_ms * math.exp(math.hypot(above, self._spread))
        return {"latency_ms": latency_ms, "low_ms": low_ms, "high_ms": high_ms, **ratio}

    @contextlib.contextmanager
    def _file(self, index: int) -> Iterator[str]:
        """The network's file; the reference's stays."""
        path = self._scratch / f"{self._space.name(index)}.onnx"
        if not path.exists():
            export_network(self._space.architecture(index), path)
        try:
            yield str(path)
        finally:
            if index != self._reference:
                path.unlink(missing_ok=True)


def _ratio(path: str, reference: str, point: Point, settings: Measuring) -> Json:
    """Slow networks are measured for longer, where the time was too short for enough runs of both."""
    files = path, reference
    specs = tuple(model_spec(file).inputs for file in files)

    def timed(seconds: float) -> Ratio:
        given = files, specs, point, dataclasses.replace(settings, seconds=seconds)
        return run_job(time_pair, given, _TIMEOUT_S + 4 * seconds)

    seconds = settings.seconds or 0.0
    found = timed(seconds)
    enough_s = min(seconds * _LEAST_PAIRS / found.n_pairs, _LONGEST_S)
    if enough_s > seconds:
        found = timed(enough_s)
    kept = ("ratio", "low", "high", "n_pairs", "model_p50_ms", "against_p50_ms")
    return {key: getattr(found, key) for key in kept}


def _rows(config: SearchConfig, found: SearchResult, groups: dict[str, list[int]], records: Json) -> list[Json]:
    """A row for each network that was measured, once each."""
    chosen: dict[int, str] = {}
    for kind, indices in groups.items():
        for index in indices:
            if "error" not in records[found.space.name(index)]:
                chosen.setdefault(index, kind)
    nets = [found.space.architecture(index) for index in chosen]
    low, high = intervals(nets, found.space.num_classes, config.predictor, config.by)
    place = {index: i for i, index in enumerate(found.good.indices.tolist())}
    rows = []
    for i, (index, kind) in enumerate(chosen.items()):
        record = records[found.space.name(index)]
        predicted = float(found.good.columns[config.by][place[index]])
        of_property = {"predicted": predicted, "predicted_low": float(low[i]), "predicted_high": float(high[i])}
        rows.append(
            {"name": found.space.name(index), "chosen": kind, **of_property, **{k: record[k] for k in _FIGURES}}
        )
    return rows


def _front(rows: Sequence[Json], by: str) -> list[Json]:
    """Fastest first: each is better than all that are faster."""
    sign = 1 if is_better_larger(by) else -1
    front: list[Json] = []
    for row in sorted(rows, key=lambda row: (row["latency_ms"], -sign * row["predicted"])):
        if not front or sign * row["predicted"] > sign * front[-1]["predicted"]:
            front.append(row)
    return front
