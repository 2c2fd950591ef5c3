"""One network, batch and precision, measured by `onnx_ghn.profile`, by a loop of one's own, and by torch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import onnx_ghn
from gpu_parts.models import Size, inputs_of, module_of
from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.profiling.bound_runs import compare_bound
from onnx_ghn.profiling.measuring import open_runnable
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import model_spec

__all__ = ["PRECISIONS", "by_library", "by_loop", "by_torch"]

PRECISIONS = ("fp32", "tf32", "fp16")
_WARMUP = 10
_BLOCKS = 5  # of a loop and the library in turn, so that a drift of the machine meets both


def by_library(
    path: str, shapes: dict[str, tuple[int, ...]], precision: str, device: str, seconds: float, timeout_s: float
) -> dict:
    """What `onnx-ghn profile --io-binding --cuda-graph` tells of the point; without it where no graph is recorded."""
    settings = Settings(
        shapes=shapes,
        seconds=seconds,
        timeout_s=timeout_s,
        warmup=_WARMUP,
        io_binding=True,
        cuda_graph=device == "cuda",
        provider_option=_options(precision, device),
    )
    file, unrecorded = _file(path, precision), ""
    (point,) = onnx_ghn.profile(file, provider=[device], threads=[1], settings=settings).points
    if point.error is not None and "CUDA graph" in point.error:
        unrecorded = point.error
        settings = dataclasses.replace(settings, cuda_graph=False)
        (point,) = onnx_ghn.profile(file, provider=[device], threads=[1], settings=settings).points
    if point.error is not None:
        raise RuntimeFailure(point.error)
    if point.cuda_graph is not None and not point.cuda_graph.outputs_agree:
        unrecorded = "the replayed graph's outputs are not those of the runs"
    operators, memory, energy = point.operators, point.device_memory, point.device_energy
    kernels = operators.device_ms is not None
    return {
        "p50_ms": point.binding.bound_p50_ms,
        "plain_ms": point.binding.plain_p50_ms,
        "graph_ms": None if unrecorded or point.cuda_graph is None else point.cuda_graph.graph_p50_ms,
        "no_graph": unrecorded,
        "operators_ms": operators.device_ms if kernels else operators.operators_ms,
        "coverage": operators.device_coverage if kernels else operators.coverage,
        "operators": "kernels" if kernels else "waited for" if device == "cuda" else "host",
        "gpu_bytes": None if memory is None else memory.process_bytes or memory.peak_bytes - memory.baseline_bytes,
        "mj_per_run": None if energy is None else energy.mj_per_run,
        "left_to_cpu": len(point.left_to_cpu or ()),
        "notes": list(point.notes),
    }


def by_loop(name: str, size: Size, batch: int, path: str, precision: str, device: str, seconds: float) -> dict:
    """A plain loop of onnxruntime with I/O binding, which shares nothing with the library's, and that one, in turn."""
    import onnxruntime

    if device == "cuda":
        onnxruntime.preload_dlls()
    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    given = inputs_of(name, size, batch)
    file, told = _file(path, precision), _options(precision, device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=[(provider, {key: text for _, key, text in told})])
    if session.get_providers()[0] != provider:
        raise RuntimeFailure(f"onnxruntime has no {provider} here")
    binding = session.io_binding()
    for key, value in given.items():
        binding.bind_ortvalue_input(key, onnxruntime.OrtValue.ortvalue_from_numpy(value.numpy(), device, 0))
    binding.bind_output("output", device, 0)

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    point, shapes = Point(provider=provider), {key: tuple(value.shape) for key, value in given.items()}
    settings = Settings(shapes=shapes, seconds=seconds / _BLOCKS, warmup=1, provider_option=told)
    runnable = open_runnable(file, model_spec(file).inputs, point, settings)
    loop_ms, library_ms = [], []
    for _ in range(_BLOCKS):
        loop_ms.append(_p50_ms(run, seconds / _BLOCKS))
        library_ms.append(compare_bound(runnable, point, settings)[0].bound_p50_ms)
    return {"p50_ms": float(np.median(loop_ms)), "library_ms": float(np.median(library_ms))}


def by_torch(name: str, size: Size, batch: int, precision: str, device: str, seconds: float) -> dict:
    """torch in eager mode, inputs on the device; the clock stops when the device is done."""
    import torch

    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    kind = torch.float16 if precision == "fp16" else torch.float32
    module = module_of(name, size).to(device, kind)
    given = [
        value.to(device, kind if value.is_floating_point() else None) for value in inputs_of(name, size, batch).values()
    ]

    def run() -> None:
        with torch.inference_mode():
            module(*given)
        if device == "cuda":
            torch.cuda.synchronize()

    found: dict[str, Any] = {"p50_ms": _p50_ms(run, seconds)}
    return found | {"gpu_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None}


def _options(precision: str, device: str) -> tuple[tuple[str, str, str], ...]:
    """The CPU's provider has no TF32 to leave out or to take."""
    return () if device == "cpu" else (("cuda", "use_tf32", "1" if precision == "tf32" else "0"),)


def _file(path: str, precision: str) -> str:
    return str(Path(path).with_suffix(".fp16.onnx")) if precision == "fp16" else path


def _p50_ms(run: Callable[[], None], seconds: float) -> float:
    for _ in range(_WARMUP):
        run()
    spent: list[int] = []
    end = time.perf_counter() + seconds
    while not spent or time.perf_counter() < end:
        began = time.perf_counter_ns()
        run()
        spent.append(time.perf_counter_ns() - began)
    return float(np.median(spent)) / 1e6
