"""Runs that a device replays: recorded once as a CUDA graph, whose inputs and outputs lie at fixed addresses.

https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html ("Using CUDA Graphs")
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OptionError
from onnx_ghn.profiling.providers import short_name
from onnx_ghn.profiling.runnable import Runnable
from onnx_ghn.profiling.sessions import timed_session
from onnx_ghn.profiling.settings import Point, Settings

__all__ = ["Replay", "check_graphs", "records_graphs"]

#: The option by which a provider records its runs.
_OPTIONS = {
    "CUDAExecutionProvider": "enable_cuda_graph",
    "TensorrtExecutionProvider": "trt_cuda_graph_enable",
    "NvTensorRTRTXExecutionProvider": "enable_cuda_graph",
}
_OFF = ("0", "false")
_TOLERANCE = 0.02  # of the largest magnitude: kernels that are chosen anew may add in another order, in float16
_COMPARED = tuple(f"tensor({kind})" for kind in ("float", "double", "float16", "int64", "int32", "int8", "uint8"))
_GRAPH_ID = "1"  # 0 is onnxruntime's own, -1 records nothing


def records_graphs(provider: str) -> bool:
    """Whether a provider records CUDA graphs."""
    return provider in _OPTIONS


def check_graphs(settings: Settings, providers: Sequence[str]) -> None:
    """Refuse graphs where no provider records any, and the option that records them where no address is fixed.

    Raises:
        OptionError: either of these.
    """
    names = {short_name(provider): option for provider, option in _OPTIONS.items()}
    if settings.cuda_graph and not any(map(records_graphs, providers)):
        used = ", ".join(map(short_name, providers))
        raise OptionError(f"`cuda_graph`: {used} records none; choose of {', '.join(names)} in `provider`")
    for name, key, value in settings.provider_option:
        if names.get(short_name(name)) == key and value.lower() not in _OFF:
            raise OptionError(
                f"`provider_option` {name}.{key}: a graph reads and writes fixed addresses, which plain runs have not; "
                "set `cuda_graph` instead"
            )


def _is_close(found: Array, expected: Array) -> bool:
    largest = np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))
    return bool(np.allclose(found, expected, rtol=0.0, atol=_TOLERANCE * float(largest), equal_nan=True))


class Replay:
    """A session that replays a graph.

    Args:
        runnable: of which a second session is made, that records.
        inputs, outputs: tensors on the device by name, which the graph reads and writes.

    Attributes:
        capture_ms: what the first run took, which records the graph.
        agrees: whether a replay gives what a plain run gave, to 2 % of the largest magnitude; a graph that does not is
            none of the model, unless that draws random numbers.

    Raises:
        RuntimeFailure: a model that cannot be recorded: control flow, or operators that are left to the CPU.
    """

    def __init__(
        self,
        runnable: Runnable,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        point: Point,
        settings: Settings,
    ) -> None:
        import onnxruntime

        option = (short_name(point.provider), _OPTIONS[point.provider], "1")
        recording = dataclasses.replace(settings, provider_option=(*settings.provider_option, option))
        self._session, _ = timed_session(runnable.model, point, recording, folder=runnable.folder)
        self._binding = self._session.io_binding()
        self._tensors = {**inputs, **outputs}  # they stay where they are as long as the graph does
        for name, value in inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", _GRAPH_ID)
        # Copies: in the processor's memory, `numpy` may give a view of what is overwritten below.
        expected = {name: np.array(value.numpy()) for name, value in outputs.items() if value.data_type() in _COMPARED}
        began = time.perf_counter_ns()
        self.run()
        self.capture_ms = (time.perf_counter_ns() - began) / 1e6
        # The run that records has filled the outputs, too: only what a replay writes over zeros is its own.
        for name, array in expected.items():
            outputs[name].update_inplace(np.zeros_like(array))
        self.run()
        self.agrees = all(_is_close(outputs[name].numpy(), array) for name, array in expected.items())

    def run(self) -> None:
        """Replay; the first time, run and record."""
        self._session.run_with_iobinding(self._binding, self._options)
        self._binding.synchronize_outputs()
