"""The timing loop counts as it is told; a summary's figures are those of numpy, scipy and the statistics module."""

from __future__ import annotations

import statistics
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats.mstats import mquantiles

from onnx_ghn.profiling.timing import Timing, summary, take_turns, time_runs


@given(st.lists(st.integers(1_000, 10**10), min_size=1, max_size=300), st.integers(1, 64))
@settings(max_examples=60, deadline=None)
def test_summary(runs_ns: list[int], batch: int) -> None:
    found = summary(Timing(runs_ns, 2 * sum(runs_ns), sum(runs_ns)), batch, first_ns=5_000_000)
    sample = [value / 1e6 for value in runs_ns]
    for name, share in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p95_ms", 0.95), ("p99_ms", 0.99), ("p99_9_ms", 0.999)):
        # alphap = betap = 1 is the linear interpolation between order statistics.
        assert getattr(found, name) == pytest.approx(float(mquantiles(sample, [share], 1, 1)[0]), rel=1e-9)
    assert found.mean_ms == pytest.approx(statistics.fmean(sample))
    assert found.std_ms == pytest.approx(statistics.stdev(sample) if len(sample) > 1 else 0.0, abs=1e-9)
    assert (found.min_ms, found.max_ms) == (min(sample), max(sample))
    assert found.first_run_ms == 5.0
    assert found.runs_per_s == pytest.approx(len(sample) / (2 * sum(sample) / 1e3))
    assert found.items_per_s == pytest.approx(batch * found.runs_per_s)
    assert found.cpu_s == pytest.approx(found.wall_s / 2)


def test_long_samples_are_thinned_but_counted_whole() -> None:
    runs = np.random.default_rng(0).integers(1000, 10**6, 20_000)
    found = summary(Timing(runs.tolist(), int(runs.sum()), 0), 1, 0)
    assert found.n_runs == 20_000
    assert len(found.samples_ms) == 5000
    assert found.p50_ms == pytest.approx(float(np.median(runs)) / 1e6)


@pytest.mark.parametrize(("warmup", "iterations"), [(0, 1), (5, 20), (2, 7)])
def test_warm_up_is_outside(warmup: int, iterations: int) -> None:
    calls: list[int] = []
    found = time_runs(lambda: calls.append(0), warmup=warmup, seconds=None, iterations=iterations)
    assert len(calls) == warmup + iterations
    assert len(found.runs_ns) == iterations
    assert sum(found.runs_ns) <= found.wall_ns


def test_time_ends_it_and_one_run_is_measured_at_least() -> None:
    found = time_runs(lambda: time.sleep(0.01), warmup=0, seconds=1e-6, iterations=None)
    assert len(found.runs_ns) == 1
    assert found.runs_ns[0] >= 10_000_000
    found = time_runs(lambda: time.sleep(0.005), warmup=0, seconds=0.05, iterations=1000)
    assert 1 <= len(found.runs_ns) <= 11  # each takes 5 ms at least


def test_streams_run_together() -> None:
    threads: set[int] = set()
    meeting = threading.Barrier(3)  # a run ends only when three are under way

    def run() -> None:
        threads.add(threading.get_ident())
        meeting.wait(timeout=30)

    found = time_runs(run, warmup=0, seconds=None, iterations=9, streams=3)
    assert len(threads) == 3
    assert len(found.runs_ns) == 9


def test_an_error_in_a_stream_comes_out() -> None:
    def run() -> None:
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        time_runs(run, warmup=0, seconds=1, iterations=None, streams=2)


def test_turns() -> None:
    order: list[str] = []
    found = take_turns([lambda: order.append("a"), lambda: order.append("b")], warmup=1, seconds=None, iterations=3)
    assert order == ["a", "b", *"ab", *"ba", *"ab"]
    assert [len(entry) for entry in found] == [3, 3]
