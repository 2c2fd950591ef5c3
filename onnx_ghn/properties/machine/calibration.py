"""Calibrate a machine: measure probes until the time is over, keep each at once, fit, and say how well it predicts."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from onnx_ghn.errors import OnnxGhnError, RuntimeFailure
from onnx_ghn.json_types import Json
from onnx_ghn.profiling.measuring import measure_point
from onnx_ghn.profiling.processes import run_job
from onnx_ghn.profiling.providers import CPU
from onnx_ghn.profiling.recording import scratch
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import model_spec
from onnx_ghn.properties.machine.calibrated import Calibration
from onnx_ghn.properties.machine.costs import fit_costs, run_errors
from onnx_ghn.properties.machine.identity import Identity, identity_here
from onnx_ghn.properties.machine.measured import Measured
from onnx_ghn.properties.machine.measuring import measure_probe
from onnx_ghn.properties.machine.memory import MemoryMeasured, fit_memory, memory_parts
from onnx_ghn.properties.machine.places import calibrations_folder
from onnx_ghn.properties.machine.probes import memory_probe, probe
from onnx_ghn.properties.machine.running import read_graph, write_graph
from onnx_ghn.properties.machine.storage import ProbeLog, probe_log, save_calibration

__all__ = ["calibrate_machine", "fitted"]

_N_MEMORY = 14  # sessions in processes of their own, half a second each
_LEAST_PROBES = 20
_MOST_FAILURES = 10
_MEMORY_TIMEOUT_S = 120.0

Progress = Callable[[int, int], None]  # seconds that are done, of how many


def calibrate_machine(
    *,
    provider: str = CPU,
    threads: int = 1,
    seconds: float = 120.0,
    anew: bool = False,
    progress: Progress | None = None,
) -> Calibration:
    """Measure operators through onnxruntime on this machine, and keep what is fitted to them for `predict_on_machine`.

    What an earlier call has measured is kept, also where it was cut short; a longer time adds to it.

    Args:
        provider: onnxruntime's name of an execution provider.
        threads: within an operator.
        seconds: to measure, all calls together; the fit takes some more.
        anew: forget what was measured.

    Raises:
        RuntimeFailure: onnxruntime is absent, or cannot run the probes.
        CheckpointError: another process calibrates, or nothing can be kept.
    """
    identity = identity_here(provider, threads)
    folder = calibrations_folder() / identity.folder_name
    with probe_log(folder, anew) as log:
        _measure(log, Point(provider=provider, threads=threads), seconds, progress)
        calibration = fitted(identity, log.lines)
        save_calibration(calibration, folder)
    return calibration


def fitted(identity: Identity, lines: list[Json]) -> Calibration:
    """Fit to measured probes, and predict each by those of other folds."""
    measured = [Measured.from_dict(line["probe"]) for line in lines if "probe" in line]
    if len(measured) < _LEAST_PROBES:
        raise RuntimeFailure(
            f"{len(measured)} networks were measured, fewer than the {_LEAST_PROBES} that a calibration needs; give "
            "more `seconds`"
        )
    memory = [MemoryMeasured(**line["memory"]) for line in lines if "memory" in line]
    costs = fit_costs(measured)
    # What stands alone in a probe of rare operators is no part of a network.
    errors = run_errors(measured, costs)[[one.kind != "operators" for one in measured]]
    low, high = (float(np.exp(np.quantile(errors, q))) for q in (0.05, 0.95))
    return Calibration(
        identity,
        costs,
        fit_memory(memory) if memory else None,
        n_probes=len(measured),
        n_operators=sum(len(one.nodes) for one in measured),
        seconds=sum(line["seconds"] for line in lines),
        measured=datetime.date.today().isoformat(),
        low=min(low, 1.0),
        high=max(high, 1.0),
        mape=float(np.abs(np.exp(-errors) - 1).mean()),
    )


def _measure(log: ProbeLog, point: Point, seconds: float, progress: Progress | None) -> None:
    spent = sum(line["seconds"] for line in log.lines)
    n_memory = sum("memory" in line for line in log.lines)
    number = sum("memory" not in line for line in log.lines)
    failures = 0
    with scratch() as folder:
        while spent < seconds:
            if progress is not None:
                progress(round(spent), round(seconds))
            began = time.perf_counter()
            try:
                if point.provider == CPU and n_memory < _N_MEMORY and number >= n_memory * 4:
                    n_memory += 1
                    line: Json = {"memory": dataclasses.asdict(_memory(n_memory - 1, point, folder))}
                else:
                    number += 1
                    line = {"probe": measure_probe(probe(number - 1), point, folder).to_dict()}
            except OnnxGhnError as error:
                failures += 1
                if failures > _MOST_FAILURES:
                    raise
                line = {"failed": str(error)}
            line["seconds"] = round(time.perf_counter() - began, 4)
            log.add(line)
            spent += line["seconds"]


def _memory(number: int, point: Point, folder: Path) -> MemoryMeasured:
    """Measure a session as `profile` does: in a process of its own."""
    path, optimized = folder / "memory.onnx", folder / "optimized.onnx"
    path.write_bytes(memory_probe(number).model)
    spec = model_spec(path)
    settings = Settings(iterations=2, warmup=1, operators=False)
    found = run_job(measure_point, (spec.path, spec.inputs, point, settings), _MEMORY_TIMEOUT_S)
    assert found.memory is not None
    write_graph(str(path), point, str(folder), optimized)
    graph = read_graph(optimized, point)
    return MemoryMeasured(memory_parts(graph), found.memory.baseline_bytes, found.memory.peak_bytes)
