"""Runs whose inputs and outputs stay on the device against plain ones: the difference is copies to and from it.

Where it is asked for, both against replays of a CUDA graph: what that saves is the launching of kernels one by one.
"""

from __future__ import annotations

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.profiling.cuda_graphs import Replay, records_graphs
from onnx_ghn.profiling.devices import device_of
from onnx_ghn.profiling.ratios import ratio_of_medians
from onnx_ghn.profiling.report import Binding, CudaGraph
from onnx_ghn.profiling.runnable import Runnable
from onnx_ghn.profiling.sessions import one_line_failures
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.timing import Run, take_turns

__all__ = ["compare_bound"]


def compare_bound(runnable: Runnable, point: Point, settings: Settings) -> tuple[Binding, CudaGraph | None]:
    """Run all in turn. Raises RuntimeFailure: the model cannot be run with I/O binding, or not be recorded."""
    import onnxruntime

    session = runnable.session
    assert session is not None
    device, number = device_of(point.provider, point.device)
    with one_line_failures("onnxruntime cannot run the model with I/O binding"):
        binding = session.io_binding()
        inputs = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(array, device, number)
            for name, array in runnable.feed.items()
        }
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        names = [value.name for value in session.get_outputs()]
        for name in names:
            binding.bind_output(name, device, number)

        def bound() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        runs: list[Run] = [runnable.run, bound]
    replay = None
    if settings.cuda_graph and records_graphs(point.provider):
        with one_line_failures("onnxruntime cannot record the runs as a CUDA graph"):
            bound()  # it allocates outputs, whose addresses stay
            outputs = dict(zip(names, binding.get_outputs(), strict=True))
            replay = Replay(runnable, inputs, outputs, point, settings)
            runs.append(replay.run)
    with one_line_failures("onnxruntime cannot run the model with I/O binding"):
        found = take_turns(runs, warmup=settings.warmup, seconds=settings.seconds, iterations=settings.iterations)
    plain_ms, bound_ms, *replayed_ms = (np.asarray(entry, np.float64) / 1e6 for entry in found)  # (n,)
    medians = _medians(plain_ms, bound_ms)
    ratio = ratio_of_medians(plain_ms, bound_ms, settings.seed)
    told = Binding(device, len(plain_ms), *medians, medians[0] - medians[1], *ratio)
    if replay is None:
        return told, None
    (graph_ms,) = replayed_ms
    ratio = ratio_of_medians(bound_ms, graph_ms, settings.seed)
    return told, CudaGraph(len(graph_ms), replay.capture_ms, replay.agrees, *_medians(bound_ms, graph_ms), *ratio)


def _medians(a: Array, b: Array) -> tuple[float, float]:
    return float(np.median(a)), float(np.median(b))
