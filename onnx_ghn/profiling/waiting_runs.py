"""Recorded runs of a point; on CUDA in a process that waits for each kernel, so that a node's time has its kernels.

Kernels run after the host has launched them, and onnxruntime's trace has the host's times. Builds with CUPTI record
kernels, too; the package on PyPI is none (onnxruntime-gpu 1.31.1 holds no CUPTI).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from onnx_ghn.installed_runtime import CUDA_PROVIDERS
from onnx_ghn.profiling.feeds import Feed
from onnx_ghn.profiling.fused import FusedNode
from onnx_ghn.profiling.processes import run_job
from onnx_ghn.profiling.recording import recorded_runs
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.trace import RunTrace
from onnx_ghn.workers import end_with

__all__ = ["WAITED", "recorded_point", "waits"]

#: Told of points whose kernels are waited for.
WAITED = (
    "operators' times: of runs that wait for each kernel (CUDA_LAUNCH_BLOCKING), which take longer; the latency is of "
    "runs that do not"
)


def waits(point: Point) -> bool:
    """Whether recorded runs of a point wait for each kernel."""
    return point.provider in CUDA_PROVIDERS


def recorded_point(
    path: str, model: str | bytes, feeds: Sequence[Feed], point: Point, settings: Settings
) -> tuple[list[RunTrace], list[FusedNode]]:
    """As `recorded_runs`. The driver reads whether to wait when a process first uses it, so that it takes another."""
    given = path, model, feeds, point, settings
    if not waits(point):
        return recorded_runs(*given)
    environment = {"CUDA_LAUNCH_BLOCKING": "1"}
    return run_job(_recorded, (os.getpid(), *given), settings.timeout_s, bounded=False, environment=environment)


def _recorded(
    parent: int, path: str, model: str | bytes, feeds: Sequence[Feed], point: Point, settings: Settings
) -> tuple[list[RunTrace], list[FusedNode]]:
    end_with(parent)  # which is killed where a point takes too long
    return recorded_runs(path, model, feeds, point, settings)
