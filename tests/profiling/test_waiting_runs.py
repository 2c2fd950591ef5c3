"""Runs that wait for kernels, in a process whose environment says so; the CPU's provider stands for CUDA's."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import cli_models as models
import pytest

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.profiling import measuring, waiting_runs
from onnx_ghn.profiling.measuring import measure_point, with_operators
from onnx_ghn.profiling.processes import run_job
from onnx_ghn.profiling.report import PointResult
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import model_spec
from onnx_ghn.profiling.waiting_runs import WAITED, recorded_point

CUDA = Point(provider="CUDAExecutionProvider")
QUICK = Settings(iterations=3, warmup=0)


def test_a_job_has_the_variables_that_are_given() -> None:
    name = "ONNX_GHN_TEST_OF_A_JOB"
    assert run_job(os.getenv, (name,), 60, environment={name: "7"}) == "7"
    assert run_job(os.getenv, (name,), 60) is None
    assert run_job(os.getenv, ("PATH",), 60, environment={name: "7"}) == os.environ["PATH"]


def test_cuda_is_waited_for_in_another_process(save, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes back from there is what is recorded here."""
    given: list[dict[str, Any]] = []

    def job(function: Any, arguments: tuple, timeout_s: float, **options: Any) -> Any:
        given.append(options)
        parent, path, model, feeds, point, settings = arguments
        there = parent, path, model, feeds, dataclasses.replace(point, provider="CPUExecutionProvider"), settings
        return run_job(function, there, timeout_s, **options)

    monkeypatch.setattr(waiting_runs, "run_job", job)
    path = save(models.conv_net())
    feed = measuring.open_runnable(path, model_spec(path).inputs, Point(), QUICK).feed
    (trace,), nodes = recorded_point(path, path, [feed], CUDA, QUICK)
    assert given == [{"bounded": False, "environment": {"CUDA_LAUNCH_BLOCKING": "1"}}]
    (here,), nodes_here = recorded_point(path, path, [feed], Point(), QUICK)
    assert len(given) == 1
    # Nodes that onnxruntime adds have other names in each session.
    assert [node.op_type for node in trace.nodes] == [node.op_type for node in here.nodes]
    assert [(node.op_type, node.covers) for node in nodes] == [(node.op_type, node.covers) for node in nodes_here]
    found = with_operators(PointResult(CUDA), trace, nodes, None, trace=False)
    assert found.notes == (WAITED,)
    assert found.operators.repetitions == len(trace.runs_us)


def test_points_on_the_cpu_are_recorded_where_they_are(save, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise RuntimeFailure("no other process")

    monkeypatch.setattr(waiting_runs, "run_job", refused)
    path = save(models.conv_net())
    found = measure_point(path, model_spec(path).inputs, Point(), QUICK)
    assert found.operators is not None
    assert WAITED not in found.notes
