"""One point measured in this process: session, warm-up, timed runs, memory, then operators in their own session."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.profiling import rewriting
from onnx_ghn.profiling.feeds import Feed, candidate_feeds
from onnx_ghn.profiling.fused import FusedNode, fused_nodes, infer_shapes
from onnx_ghn.profiling.operators import measured_operators, static_operators
from onnx_ghn.profiling.own_process import peak_bytes, pin, resident_bytes
from onnx_ghn.profiling.report import Machine, Memory, PointResult, TensorInfo
from onnx_ghn.profiling.sessions import one_line_failures, timed_session
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import InputSpec
from onnx_ghn.profiling.timing import summary, time_runs
from onnx_ghn.profiling.trace import RunTrace, read_trace
from onnx_ghn.scratch import scratch_folder

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Runnable", "estimate_point", "measure_point", "open_runnable"]

_REPETITIONS = 50  # of the profiled run at most
_PROFILE_SECONDS = 3.0  # after which it stops
_MAX_EVENTS = 500_000  # onnxruntime records a million events and then no more
_WARM_PROFILED = 2
_UNDISTURBED = 0.9  # processor time over wall time; an undisturbed thread has 1


class Runnable:
    """A session and inputs that it takes."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        feed: Feed,
        model: str | bytes,
        creation_ms: float,
        notes: list[str],
    ) -> None:
        self.feed, self.model, self.creation_ms, self.notes = feed, model, creation_ms, notes
        self.session: onnxruntime.InferenceSession | None = session
        self.first_ns = 0  # of the session's first run, in which it also takes its memory

    def run(self) -> None:
        """Run once, for all outputs."""
        with one_line_failures("onnxruntime cannot run the model"):
            assert self.session is not None
            self.session.run(None, self.feed)


def open_runnable(path: str, specs: Sequence[InputSpec], point: Point, settings: Settings) -> Runnable:
    """A session of a model file, and the first of the candidate inputs that it runs on.

    If the file declares fixed shapes other than those asked for, the model is changed in memory.

    Raises:
        RuntimeFailure: the model runs on none of them; the reason is the first one's.
        OptionError: inputs that do not fit.
    """
    failure: RuntimeFailure | None = None
    opened: tuple[onnxruntime.InferenceSession, float] | None = None
    feeds = candidate_feeds(specs, batch=point.batch, shapes=settings.shapes, file=settings.inputs, seed=settings.seed)
    for feed, chosen in feeds:
        notes = []
        model: str | bytes = path
        changed = _changed(specs, feed)
        if changed:
            notes.append("declared shapes changed in memory: " + _listed(changed))
            proto = rewriting.load_structure(path)
            rewriting.set_input_shapes(proto, feed)
            model = rewriting.serialized(proto, path)
        if chosen:
            notes.append("free dimensions chosen here: " + _listed(feed))
        if opened is None or changed:
            opened = timed_session(model, point, settings, folder=os.path.dirname(path) or os.curdir)
        runnable = Runnable(opened[0], feed, model, opened[1], notes)
        try:
            began = time.perf_counter_ns()
            runnable.run()
            runnable.first_ns = time.perf_counter_ns() - began
        except RuntimeFailure as error:
            failure = failure or error
            continue
        return runnable
    assert failure is not None  # there is one candidate at least
    raise failure


def measure_point(
    path: str,
    specs: Sequence[InputSpec],
    point: Point,
    settings: Settings,
    machine: Machine | None = None,
    trace: bool = False,
) -> PointResult:
    """Measure a point; with `trace`, keep the events of the profiled runs."""
    pin(settings.pin)
    baseline = resident_bytes()
    runnable = open_runnable(path, specs, point, settings)
    loaded = resident_bytes()
    timing = time_runs(
        runnable.run,
        warmup=settings.warmup,
        seconds=settings.seconds,
        iterations=settings.iterations,
        streams=point.streams,
    )
    memory = Memory(baseline, loaded, peak_bytes())
    infos, notes = _infos(runnable.feed), tuple(runnable.notes)
    found = PointResult(point, None, infos, notes, runnable.creation_ms, None, memory, None, machine)
    latency = summary(timing, found.batch, runnable.first_ns)
    busy = latency.cpu_s / latency.wall_s
    if point.provider == "CPUExecutionProvider" and busy < _UNDISTURBED:
        notes = (*notes, f"the machine is busy: this process had a processor for {busy:.0%} of the time")
    found = dataclasses.replace(found, latency=latency, notes=notes)
    if not settings.operators:
        return found
    model, feed = runnable.model, runnable.feed
    runnable.session = None  # its weights' memory is free again before there is a second session
    recorded, nodes = _recorded(path, model, feed, point, settings)
    operators = measured_operators(recorded, nodes, machine)
    return dataclasses.replace(found, operators=operators, events=tuple(recorded.events) if trace else ())


def estimate_point(
    path: str, specs: Sequence[InputSpec], point: Point, settings: Settings, machine: Machine
) -> PointResult:
    """Estimate a point without running the model: its operators and their times."""
    feeds = candidate_feeds(specs, batch=point.batch, shapes=settings.shapes, file=settings.inputs, seed=settings.seed)
    feed, chosen = next(iter(feeds))
    original = rewriting.load_structure(path)
    rewriting.set_input_shapes(original, feed)
    rewriting.name_nodes(original)
    with _scratch() as folder:
        optimized = folder / "optimized.onnx"
        data, where = rewriting.serialized(original, path), os.path.dirname(path) or os.curdir
        _, creation_ms = timed_session(data, point, settings, folder=where, optimized=optimized)
        nodes = fused_nodes(optimized, original)
        operators = static_operators(nodes, infer_shapes(nodes, optimized, original), machine, point.provider)
    notes = ["estimated, not run"]
    if chosen:
        notes.append("free dimensions chosen here: " + _listed(feed))
    return PointResult(point, None, _infos(feed), tuple(notes), creation_ms, None, None, operators, machine)


def _recorded(
    path: str, model: str | bytes, feed: Feed, point: Point, settings: Settings
) -> tuple[RunTrace, list[FusedNode]]:
    """The trace of some runs, and the nodes of the graph as onnxruntime runs it."""
    original = rewriting.load_structure(path)
    named, renamed = rewriting.name_nodes(original), rewriting.distinguish_nodes(original)
    if named or renamed or isinstance(model, bytes):
        if isinstance(model, bytes):
            rewriting.set_input_shapes(original, feed)
        model = rewriting.serialized(original, path)
    rewriting.give_back_names(renamed)
    with _scratch() as folder:
        # Providers that compile parts of a graph (TensorRT) cannot write it: their nodes have their trace alone.
        writes = point.provider in ("CPUExecutionProvider", "CUDAExecutionProvider")
        optimized = folder / "optimized.onnx" if writes else None
        session, _ = timed_session(
            model,
            point,
            settings,
            folder=os.path.dirname(path) or os.curdir,
            profile_prefix=str(folder / "trace"),
            optimized=optimized,
        )
        nodes: list[FusedNode] = [] if optimized is None else fused_nodes(optimized, original)
        n_runs = max(3, min(_REPETITIONS, _MAX_EVENTS // max(len(nodes) or len(original.graph.node), 1)))
        deadline = time.perf_counter() + _PROFILE_SECONDS
        with one_line_failures("onnxruntime cannot run the model"):
            for number in range(n_runs + _WARM_PROFILED):
                session.run(None, feed)
                if number >= _WARM_PROFILED + 2 and time.perf_counter() > deadline:
                    break
            events = json.loads(Path(session.end_profiling()).read_bytes())
    trace = read_trace(events, skip=_WARM_PROFILED)
    if not trace.runs_us:
        raise RuntimeFailure("onnxruntime recorded no run; set `operators` to False")
    return trace, nodes


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_folder())
        except OSError as error:
            raise RuntimeFailure(f"no room for temporary files ({error.strerror}); set TMPDIR") from error
        yield folder


def _infos(feed: Feed) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(name, str(array.dtype), array.shape) for name, array in feed.items())


def _changed(specs: Iterable[InputSpec], feed: Feed) -> Feed:
    """The inputs whose fed shape is not the one that the file declares."""
    return {spec.name: feed[spec.name] for spec in specs if not spec.admits(feed[spec.name].shape)}


def _listed(feed: Feed) -> str:
    return ", ".join(f"{name} {'×'.join(map(str, array.shape)) or 'scalar'}" for name, array in feed.items())
