"""The roofs of the roofline: what this machine can do at best through onnxruntime.

Measured anew each time, in a second or two: what a machine gives depends on its neighbours and its temperature too,
and a roof from another day would be no roof.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from onnx_ghn._version import __version__
from onnx_ghn.installed_runtime import require_onnxruntime
from onnx_ghn.limits import available_cores
from onnx_ghn.profiling.devices import device_of
from onnx_ghn.profiling.report import Machine
from onnx_ghn.profiling.sessions import one_line_failures, timed_session
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.timing import time_runs

__all__ = ["measure_machine", "system_info"]

_MATMUL_SIZE = {"CPUExecutionProvider": 512}  # elsewhere, where launching a kernel costs more, 4096
_MEMORY_ELEMENTS = 1 << 24  # 64 MiB an array, three arrays
_CACHE_ELEMENTS = 1 << 15  # 128 KiB an array for each thread
_CHAIN = 64  # operators that do nothing
_SECONDS = 0.4  # for each figure


def measure_machine(at: Point, given: Settings) -> Machine:
    """Measure peak, bandwidths and dispatch; each is that of the best of the runs in `_SECONDS`.

    Peak is float32 MatMul of square matrices, bandwidth c = a + b with three arrays moved (as STREAM counts),
    dispatch the time of each of a chain of operators on one element.
    """
    provider, threads = at.provider, at.threads
    size = _MATMUL_SIZE.get(provider, 4096)
    if threads > 4:
        size = max(size, 1024)  # so that each thread has enough to do
    point = Point(provider=provider, threads=threads, device=at.device)
    settings = Settings(provider_option=given.provider_option, provider_libraries=given.provider_libraries)
    best_s = _best(_probe("MatMul"), {"a": (size, size), "b": (size, size)}, point, settings)
    memory_s = _best(_probe("Add"), {"a": (_MEMORY_ELEMENTS,), "b": (_MEMORY_ELEMENTS,)}, point, settings)
    n_cached = _CACHE_ELEMENTS * threads
    empty_s = _best(_probe("Sin", _CHAIN), {"a": (1,)}, point, settings)
    none_s = _best(_probe("Sin"), {"a": (1,)}, point, settings)
    dispatch_s = max(empty_s - none_s, 0.0) / (_CHAIN - 1)
    # Of one small operator the session's own time is a part: it is taken off.
    cache_s = max(_best(_probe("Add"), {"a": (n_cached,), "b": (n_cached,)}, point, settings) - none_s, 1e-9)
    return Machine(
        provider=provider,
        threads=threads,
        peak_flops=2 * size**3 / best_s,
        memory_bytes_per_s=3 * 4 * _MEMORY_ELEMENTS / memory_s,
        cache_bytes_per_s=max(3 * 4 * n_cached / cache_s, 3 * 4 * _MEMORY_ELEMENTS / memory_s),
        dispatch_us=dispatch_s * 1e6,
        last_level_cache_bytes=_cache_bytes() if provider == "CPUExecutionProvider" else 0,
    )


def system_info() -> dict[str, str | int]:
    """Processor, cores and versions, for a report."""
    require_onnxruntime()
    import onnxruntime

    return {
        "processor": _processor(),
        "cores": len(available_cores()),
        "system": platform.platform(terse=True),
        "onnxruntime": onnxruntime.__version__,
        "onnx_ghn": __version__,
    }


def _processor() -> str:
    """The processor's name, which psutil does not tell."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _cache_bytes() -> int:
    """The size of the last level of cache, from Linux's /sys or the C library's sysconf; 0 if neither has it."""
    sizes = [0]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text(encoding="ascii").strip()  # "32768K"
        sizes.append(int(text[:-1]) * {"K": 1 << 10, "M": 1 << 20}[text[-1]] if text[-1:] in "KM" else int(text))
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sizes.append(os.sysconf("SC_LEVEL3_CACHE_SIZE"))
    return max(sizes)


def _probe(op_type: str, length: int = 1) -> bytes:
    """A model of one operator on inputs a and b, or of a chain of operators on a alone."""
    names = ["a", *(f"v{i}" for i in range(length - 1)), "y"]
    inputs = ["a"] if op_type == "Sin" else ["a", "b"]
    nodes = [helper.make_node(op_type, [a, *inputs[1:]], [b]) for a, b in itertools.pairwise(names)]
    given, output = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in values] for values in (inputs, "y")
    )
    graph = helper.make_graph(nodes, "probe", given, output)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def _best(model: bytes, shapes: dict[str, tuple[int, ...]], point: Point, settings: Settings) -> float:
    """The seconds of the fastest run; inputs and output stay on the device."""
    import onnxruntime

    session, _ = timed_session(model, point, settings)
    device, number = device_of(point.provider, point.device)
    binding = session.io_binding()
    arrays = {name: np.full(shape, 1.0, np.float32) for name, shape in shapes.items()}
    with one_line_failures("the machine's peak cannot be measured"):
        for name, array in arrays.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, device, number))
        first = next(iter(shapes.values()))
        binding.bind_ortvalue_output(
            "y", onnxruntime.OrtValue.ortvalue_from_shape_and_type(first, np.float32, device, number)
        )

        def run() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        found = time_runs(run, warmup=1, seconds=_SECONDS, iterations=None)
    return min(found.runs_ns) / 1e9
