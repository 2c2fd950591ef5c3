"""Runs that onnxruntime records, and the nodes of the graph as it runs it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.profiling import rewriting
from onnx_ghn.profiling.feeds import Feed, shapes_of
from onnx_ghn.profiling.fused import FusedNode, fused_nodes
from onnx_ghn.profiling.sessions import one_line_failures, timed_session
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.trace import RunTrace, read_trace
from onnx_ghn.scratch import scratch_folder

__all__ = ["recorded_runs", "scratch"]

_REPETITIONS = 50  # of the profiled run at most
_PROFILE_SECONDS = 3.0  # after which it stops
_MAX_EVENTS = 500_000  # onnxruntime records a million events and then no more
_WARM = 2
_LEAST = 3


def recorded_runs(
    path: str, model: str | bytes, feeds: Sequence[Feed], point: Point, settings: Settings
) -> tuple[list[RunTrace], list[FusedNode]]:
    """The trace of some runs on each of the feeds, in one session, and the nodes of the graph as onnxruntime runs it.

    Args:
        path: the file.
        model: the same, or the bytes of a copy that declares the shapes of the only feed.

    Raises:
        RuntimeFailure: a run fails, or none was recorded.
    """
    original = rewriting.load_structure(path)
    named, renamed = rewriting.name_nodes(original), rewriting.distinguish_nodes(original)
    if named or renamed or isinstance(model, bytes):
        if isinstance(model, bytes):
            rewriting.set_input_shapes(original, shapes_of(feeds[0]))
        model = rewriting.serialized(original, path)
    rewriting.give_back_names(renamed)
    with scratch() as folder:
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
        n_events = max(len(nodes) or len(original.graph.node), 1) * len(feeds)
        n_runs = max(_LEAST, min(_REPETITIONS, _MAX_EVENTS // n_events))
        counts = []
        with one_line_failures("onnxruntime cannot run the model"):
            for feed in feeds:
                deadline = time.perf_counter() + _PROFILE_SECONDS
                for number in range(n_runs + _WARM):
                    session.run(None, feed)
                    if number >= _WARM + _LEAST - 1 and time.perf_counter() > deadline:
                        break
                counts.append(number + 1)
            events = json.loads(Path(session.end_profiling()).read_bytes())
    begins = itertools.accumulate(counts, initial=0)
    traces = [read_trace(events, begin + _WARM, count - _WARM) for begin, count in zip(begins, counts, strict=False)]
    if not all(trace.runs_us for trace in traces):
        raise RuntimeFailure("onnxruntime recorded no run; set `operators` to False")
    return traces, nodes


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for temporary files. Raises RuntimeFailure: there is no room for one."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_folder())
        except OSError as error:
            raise RuntimeFailure(f"no room for temporary files ({error.strerror}); set TMPDIR") from error
        yield folder
