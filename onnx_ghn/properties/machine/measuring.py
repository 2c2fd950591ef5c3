"""What the operators of a probe take here: times from onnxruntime's trace, sizes from the graph that it runs."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from onnx_ghn.profiling.sessions import one_line_failures, timed_session
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.trace import RunTrace, read_trace
from onnx_ghn.properties.machine.features import kind_and_sizes
from onnx_ghn.properties.machine.measured import Measured
from onnx_ghn.properties.machine.probes import Probe
from onnx_ghn.properties.machine.running import RunGraph, read_graph

__all__ = ["measure_probe", "node_times"]

_WARM, _LEAST_RUNS, _MOST_RUNS = 1, 4, 25
_TRACED_S, _TIMED_S = 0.15, 0.08


def measure_probe(probe: Probe, point: Point, scratch: Path) -> Measured:
    """Run a probe some times, traced and then plainly.

    Raises:
        RuntimeFailure: onnxruntime cannot run it.
    """
    optimized = scratch / "optimized.onnx"
    session, _ = timed_session(
        probe.model, point, Settings(), folder=str(scratch), profile_prefix=str(scratch / "trace"), optimized=optimized
    )
    with one_line_failures("a probe cannot be run"):
        deadline = time.perf_counter() + _TRACED_S
        n_runs = 0
        while n_runs < _WARM + _LEAST_RUNS or (n_runs < _WARM + _MOST_RUNS and time.perf_counter() < deadline):
            session.run(None, probe.feed)
            n_runs += 1
        trace_file = Path(session.end_profiling())
        events = json.loads(trace_file.read_bytes())
        trace_file.unlink()
        runs_us: list[float] = []
        deadline = time.perf_counter() + _TIMED_S
        while len(runs_us) < _LEAST_RUNS or (len(runs_us) < 4 * _MOST_RUNS and time.perf_counter() < deadline):
            began = time.perf_counter_ns()
            session.run(None, probe.feed)
            runs_us.append((time.perf_counter_ns() - began) / 1e3)
    del session
    graph = read_graph(optimized, point)
    nodes = node_times(graph, read_trace(events, _WARM))
    run_us = statistics.fmean(runs_us[place] for place in _undisturbed(runs_us))
    return Measured(probe.number, probe.kind, run_us, graph.streamed_bytes, tuple(nodes))


def _undisturbed(times: Sequence[float]) -> list[int]:
    """Which of the times are from the first to the fourth tenth: what is slower was disturbed by something else."""
    ordered = sorted(range(len(times)), key=times.__getitem__)
    return ordered[len(times) // 10 : max(len(times) * 4 // 10, 1)]


def node_times(graph: RunGraph, trace: RunTrace) -> list[tuple[str, tuple[float, ...], float]]:
    """Kind, sizes and time of the nodes of a graph that the trace names.

    The mean over the runs that as a whole were not disturbed: times are whole microseconds, of which a median would
    stay whole, and medians of nodes would not add up to that of the run.
    """
    chosen = _undisturbed(trace.runs_us)
    left: dict[tuple[str, str], list[Sequence[float]]] = {}
    for times in trace.nodes:
        left.setdefault((times.name, times.op_type), []).append(times.runs_us)
    found = []
    for node in graph.nodes:
        runs = left.get((node.name, node.op_type))
        if not runs:
            continue
        own = runs.pop(0)
        if _is_needed(node.op_type) and any(value is not None and not value.is_sized for value in node.outputs[:1]):
            continue
        kind, sizes = kind_and_sizes(node)
        found.append((kind, sizes, statistics.fmean(own[run] for run in chosen)))
    return found


def _is_needed(op_type: str) -> bool:
    """Whether the sizes of an operator's output are among those that its time depends on."""
    return op_type not in ("NonZero", "NonMaxSuppression")
