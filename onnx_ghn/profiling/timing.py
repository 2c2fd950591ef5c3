"""The timing loop, and what a sample of latencies says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from onnx_ghn.profiling.report import Latency

__all__ = ["Timing", "summary", "take_turns", "time_runs"]

Run = Callable[[], object]
_KEPT = 5000  # samples in a report
_PERCENTILES = {"p50_ms": 50, "p90_ms": 90, "p95_ms": 95, "p99_ms": 99, "p99_9_ms": 99.9}


class Timing:
    """Nanoseconds of each measured run, of the whole measurement, and of processor time in it."""

    def __init__(self, runs_ns: Sequence[int], wall_ns: int, cpu_ns: int) -> None:
        self.runs_ns, self.wall_ns, self.cpu_ns = runs_ns, wall_ns, cpu_ns


def time_runs(run: Run, *, warmup: int, seconds: float | None, iterations: int | None, streams: int = 1) -> Timing:
    """Time each call of `run`, after `warmup` calls that are not timed.

    It ends after `iterations` calls (of all streams together) or `seconds`, whichever comes first, and measures one
    call of each stream at least, where so many are asked for. Each stream is a thread that calls `run` again as soon
    as it returns.
    """
    for _ in range(warmup):
        run()
    budget = _Budget(iterations)
    if streams == 1:
        cpu_began, began = time.process_time_ns(), time.perf_counter_ns()
        measured = _loop(run, budget, began, seconds)
        return Timing(measured, time.perf_counter_ns() - began, time.process_time_ns() - cpu_began)
    barrier = threading.Barrier(streams)  # all begin together: a thread that waits for its start is no run

    def stream() -> tuple[int, list[int]]:
        barrier.wait()
        start = time.perf_counter_ns()
        return start, _loop(run, budget, start, seconds)

    cpu_began = time.process_time_ns()
    with ThreadPoolExecutor(streams) as pool:
        parts = [future.result() for future in [pool.submit(stream) for _ in range(streams)]]
    wall = time.perf_counter_ns() - min(start for start, _ in parts)
    return Timing([sample for _, part in parts for sample in part], wall, time.process_time_ns() - cpu_began)


def take_turns(runs: Sequence[Run], *, warmup: int, seconds: float | None, iterations: int | None) -> list[list[int]]:
    """Time several calls in turn (ABAB...), so that a drift of the machine meets all alike. `iterations` of each."""
    for run in runs:
        for _ in range(warmup):
            run()
    found: list[list[int]] = [[] for _ in runs]
    deadline = _deadline(time.perf_counter_ns(), seconds)
    while not found[0] or (
        (iterations is None or len(found[0]) < iterations) and (deadline is None or time.perf_counter_ns() < deadline)
    ):
        # Who goes first changes, as what the one leaves in the caches is the other's start.
        order = range(len(runs)) if len(found[0]) % 2 == 0 else reversed(range(len(runs)))
        for index in order:
            found[index].append(_once(runs[index]))
    return found


def summary(timing: Timing, batch: int, first_ns: int) -> Latency:
    """Percentiles (linear interpolation, numpy's default), mean and spread of all runs."""
    sample = np.asarray(timing.runs_ns, np.float64) / 1e6
    wall_s = timing.wall_ns / 1e9
    kept = sample if len(sample) <= _KEPT else sample[np.linspace(0, len(sample) - 1, _KEPT).astype(int)]
    return Latency(
        n_runs=len(sample),
        wall_s=wall_s,
        cpu_s=timing.cpu_ns / 1e9,
        first_run_ms=first_ns / 1e6,
        mean_ms=float(sample.mean()),
        std_ms=float(sample.std(ddof=1)) if len(sample) > 1 else 0.0,
        min_ms=float(sample.min()),
        max_ms=float(sample.max()),
        **{name: float(np.percentile(sample, q)) for name, q in _PERCENTILES.items()},
        runs_per_s=len(sample) / wall_s,
        items_per_s=len(sample) * batch / wall_s,
        samples_ms=tuple(np.round(kept, 6).tolist()),
    )


class _Budget:
    """Runs that are left, for all streams."""

    def __init__(self, left: int | None) -> None:
        self._left = left
        self._lock = threading.Lock()

    def take(self) -> bool:
        if self._left is None:
            return True
        with self._lock:
            self._left -= 1
            return self._left >= 0


def _deadline(began_ns: int, seconds: float | None) -> int | None:
    return None if seconds is None else began_ns + int(seconds * 1e9)


def _once(run: Run) -> int:
    began = time.perf_counter_ns()
    run()
    return time.perf_counter_ns() - began


def _loop(run: Run, budget: _Budget, began_ns: int, seconds: float | None) -> list[int]:
    found: list[int] = []
    clock = time.perf_counter_ns
    deadline = _deadline(began_ns, seconds)
    while budget.take():
        began = clock()
        if found and deadline is not None and began >= deadline:
            break
        run()
        found.append(clock() - began)
    return found
