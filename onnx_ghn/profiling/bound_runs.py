"""Runs whose inputs and outputs stay on the device against plain ones: the difference is copies to and from it."""

from __future__ import annotations

import numpy as np

from onnx_ghn.profiling.devices import device_of
from onnx_ghn.profiling.ratios import ratio_of_medians
from onnx_ghn.profiling.report import Binding
from onnx_ghn.profiling.runnable import Runnable
from onnx_ghn.profiling.sessions import one_line_failures
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.timing import take_turns

__all__ = ["compare_bound"]


def compare_bound(runnable: Runnable, point: Point, settings: Settings) -> Binding:
    """Run both in turn. Raises RuntimeFailure: the model cannot be run with I/O binding."""
    import onnxruntime

    session = runnable.session
    assert session is not None
    device, number = device_of(point.provider, point.device)
    with one_line_failures("onnxruntime cannot run the model with I/O binding"):
        binding = session.io_binding()
        for name, array in runnable.feed.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, device, number))
        for value in session.get_outputs():
            binding.bind_output(value.name, device, number)

        def bound() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        found = take_turns(
            [runnable.run, bound], warmup=settings.warmup, seconds=settings.seconds, iterations=settings.iterations
        )
    plain_ms, bound_ms = (np.asarray(entry, np.float64) / 1e6 for entry in found)  # (n,)
    ratio, low, high = ratio_of_medians(plain_ms, bound_ms, settings.seed)
    medians = float(np.median(plain_ms)), float(np.median(bound_ms))
    return Binding(device, len(plain_ms), *medians, medians[0] - medians[1], ratio, low, high)
