"""One point measured in this process: session, warm-up, timed runs, memory, then operators in their own session."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.profiling import rewriting
from onnx_ghn.profiling.bound_runs import compare_bound
from onnx_ghn.profiling.cuda_graphs import records_graphs
from onnx_ghn.profiling.energy import EnergyMeter
from onnx_ghn.profiling.feeds import Feed, point_feeds, shapes_of
from onnx_ghn.profiling.fused import FusedNode, fused_nodes, infer_shapes
from onnx_ghn.profiling.gpu_meter import GpuMeter
from onnx_ghn.profiling.length_runs import LengthRuns
from onnx_ghn.profiling.operators import measured_operators, static_operators
from onnx_ghn.profiling.own_process import peak_bytes, pin, resident_bytes
from onnx_ghn.profiling.recording import scratch
from onnx_ghn.profiling.report import Machine, Memory, PointResult, TensorInfo
from onnx_ghn.profiling.runnable import Runnable
from onnx_ghn.profiling.sessions import timed_session
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import InputSpec
from onnx_ghn.profiling.timing import summary, time_runs
from onnx_ghn.profiling.trace import RunTrace
from onnx_ghn.profiling.turns import body_turns
from onnx_ghn.profiling.waiting_runs import WAITED, recorded_point, waits

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["busy_note", "estimate_point", "infos", "measure_point", "open_runnable", "timed_point", "with_operators"]

_UNDISTURBED = 0.9  # processor time over wall time; an undisturbed thread has 1


def open_runnable(
    path: str, specs: Sequence[InputSpec], point: Point, settings: Settings, shared: Runnable | None = None
) -> Runnable:
    """A session of a model file, and the first of the candidate inputs that it runs on.

    If the file declares fixed shapes other than those asked for, the model is changed in memory.

    Args:
        shared: one of the same file and settings, whose session serves again where the model is not changed.

    Raises:
        RuntimeFailure: the model runs on none of them; the reason is the first one's.
        OptionError: inputs that do not fit.
    """
    folder = os.path.dirname(path) or os.curdir
    failure: RuntimeFailure | None = None
    opened: tuple[onnxruntime.InferenceSession, float] | None = None
    is_shared = False
    if shared is not None and shared.session is not None and shared.model == path:
        opened, is_shared = (shared.session, shared.creation_ms), True
    for feed, chosen in point_feeds(specs, point, settings):
        notes = []
        model: str | bytes = path
        changed = _changed(specs, feed)
        if changed:
            notes.append("declared shapes changed in memory: " + _listed(changed))
            proto = rewriting.load_structure(path)
            rewriting.set_input_shapes(proto, shapes_of(feed))
            model = rewriting.serialized(proto, path)
        if chosen:
            notes.append("free dimensions chosen here: " + ", ".join(chosen))
        if opened is None or changed:
            opened = timed_session(model, point, settings, folder=folder)
            is_shared = False
        runnable = Runnable(opened[0], feed, model, opened[1], notes, folder)
        runnable.is_shared = is_shared
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
    gpu = GpuMeter(point)
    gpu.read_memory()
    baseline = resident_bytes()
    runnable = open_runnable(path, specs, point, settings)
    loaded = resident_bytes()
    gpu.read_memory()
    found = timed_point(runnable, specs, point, settings, machine, gpu)
    memory = Memory(baseline, loaded, peak_bytes())
    found = dataclasses.replace(found, memory=memory, device_memory=gpu.memory())
    if not settings.operators:
        return found
    model, feed = runnable.model, runnable.feed
    runnable.session = None  # its weights' memory is free again before there is a second session
    (recorded,), nodes = recorded_point(path, model, [feed], point, settings)
    return with_operators(found, recorded, nodes, machine, trace)


def with_operators(
    found: PointResult, recorded: RunTrace, nodes: Sequence[FusedNode], machine: Machine | None, trace: bool
) -> PointResult:
    """A point with the operators of its recorded runs; with `trace`, with their events too."""
    operators = measured_operators(recorded, nodes, machine)
    notes = (*found.notes, *((WAITED,) if waits(found.point) else ()))
    events = tuple(recorded.events) if trace else ()
    return dataclasses.replace(found, notes=notes, operators=operators, events=events)


def timed_point(
    runnable: Runnable,
    specs: Sequence[InputSpec],
    point: Point,
    settings: Settings,
    machine: Machine | None,
    gpu: GpuMeter | None = None,
) -> PointResult:
    """The latency and energy of a point, without memory and operators.

    Args:
        gpu: of the point; it reads the memory behind the runs, before there is a session that records them.
    """
    gpu = GpuMeter(point) if gpu is None else gpu
    notes = (*runnable.notes, *gpu.notes)
    batch = next((array.shape[0] for array in runnable.feed.values() if array.shape), 1)
    of_lengths = None if settings.lengths is None else LengthRuns(runnable, specs, point, settings)
    run = runnable.run if of_lengths is None else of_lengths.run
    for _ in range(settings.warmup):
        run()
    gpu.begin_energy()
    meter = EnergyMeter()
    timing = time_runs(run, warmup=0, seconds=settings.seconds, iterations=settings.iterations, streams=point.streams)
    spent = timing.wall_ns / 1e9, len(timing.runs_ns)
    energy, device_energy = meter.since(*spent), gpu.energy(*spent)
    gpu.read_memory()
    latency = summary(timing, batch, runnable.first_ns)
    notes = (*notes, *busy_note(point, timing.cpu_ns, timing.wall_ns))
    if of_lengths is not None:
        notes = (*notes, f"operators are those of {of_lengths.typical}, the median of the lengths that are drawn")
    is_bound = settings.io_binding or (settings.cuda_graph and records_graphs(point.provider))
    binding, graph = compare_bound(runnable, point, settings) if is_bound else (None, None)
    return PointResult(
        point,
        binding=binding,
        cuda_graph=graph,
        energy=energy,
        device_energy=device_energy,
        inputs=infos(runnable.feed),
        notes=notes,
        session_creation_ms=runnable.creation_ms,
        session_shared=runnable.is_shared,
        latency=latency,
        lengths=None if of_lengths is None else of_lengths.profile(settings.warmup, latency.wall_s, batch),
        machine=machine,
    )


def busy_note(point: Point, cpu_ns: int, wall_ns: int) -> list[str]:
    """A note where other processes had the processor."""
    if point.provider != "CPUExecutionProvider" or cpu_ns >= _UNDISTURBED * wall_ns:
        return []
    return [f"the machine is busy: this process had a processor for {cpu_ns / wall_ns:.0%} of the time"]


def estimate_point(
    path: str, specs: Sequence[InputSpec], point: Point, settings: Settings, machine: Machine
) -> PointResult:
    """Estimate a point without running the model: its operators and their times."""
    feed, chosen = next(iter(point_feeds(specs, point, settings)))
    original = rewriting.load_structure(path)
    rewriting.set_input_shapes(original, shapes_of(feed))
    rewriting.name_nodes(original)
    with scratch() as folder:
        optimized = folder / "optimized.onnx"
        data, where = rewriting.serialized(original, path), os.path.dirname(path) or os.curdir
        _, creation_ms = timed_session(data, point, settings, folder=where, optimized=optimized)
        nodes = fused_nodes(optimized, original)
        shapes = infer_shapes(optimized, original, point, settings)
        turns = body_turns(rewriting.load_structure(os.fspath(optimized)), shapes)
        operators = static_operators(nodes, shapes, machine, point.provider, turns)
    notes = ["estimated, not run"]
    if any(node.op_type == "If" for node in nodes):
        notes.append("both branches of an If count")
    if None in turns.values():
        notes.append("how often the body of a Loop runs is not known without running it: its operators do not count")
    if chosen:
        notes.append("free dimensions chosen here: " + ", ".join(chosen))
    return PointResult(
        point,
        inputs=infos(feed),
        notes=tuple(notes),
        session_creation_ms=creation_ms,
        operators=operators,
        machine=machine,
    )


def infos(feed: Feed) -> tuple[TensorInfo, ...]:
    """Inputs as they are fed."""
    return tuple(TensorInfo(name, str(array.dtype), array.shape) for name, array in feed.items())


def _changed(specs: Iterable[InputSpec], feed: Feed) -> Feed:
    """The inputs whose fed shape is not the one that the file declares."""
    return {spec.name: feed[spec.name] for spec in specs if not spec.admits(feed[spec.name].shape)}


def _listed(feed: Feed) -> str:
    return ", ".join(f"{name} {'×'.join(map(str, array.shape)) or 'scalar'}" for name, array in feed.items())
