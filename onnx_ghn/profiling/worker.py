"""What runs in a process of its own: one job in, one result out, both JSON.

A process for each point makes its peak memory its own, and whatever happens to it (a crash, a kill for want of
memory, a run that never ends) happens to that point alone.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from onnx_ghn.errors import OnnxGhnError, RuntimeFailure
from onnx_ghn.profiling.settings import Point, Settings

__all__ = ["main"]


def main(job: dict[str, Any]) -> None:
    """Do a job; its result, or {"error": ...}, is all that goes to stdout."""
    result_fd = os.dup(1)
    os.dup2(2, 1)  # libraries may print
    try:
        result = _run(job)
    except OnnxGhnError as error:
        result = {"error": str(error)}
    except MemoryError:
        result = {"error": "out of memory; choose a smaller batch or shape, or a machine with more"}
    with os.fdopen(result_fd, "w", encoding="utf-8") as out:
        json.dump(result, out)
    sys.stderr.flush()


def _run(job: dict[str, Any]) -> dict[str, Any]:
    import dataclasses

    # Before anything of onnxruntime's is measured, all of it is loaded.
    import onnxruntime  # noqa: F401

    from onnx_ghn.profiling import measuring, pairs
    from onnx_ghn.profiling.machine import measure_machine
    from onnx_ghn.profiling.memory import bound_memory
    from onnx_ghn.profiling.report import Machine
    from onnx_ghn.profiling.specs import InputSpec

    point, settings = Point(**job["point"]), Settings(**job["settings"])
    if point.provider == "CPUExecutionProvider":
        bound_memory()  # other providers map far more than they use
    specs = [[InputSpec.from_dict(entry) for entry in entries] for entries in job.get("specs", [])]
    machine = Machine(**job["machine"]) if job.get("machine") else None
    paths = job.get("paths", [])
    kind = job["kind"]
    if kind == "machine":
        return measure_machine(point.provider, point.threads).to_dict()
    if kind == "measure":
        found = measuring.measure_point(paths[0], specs[0], point, settings, machine, job.get("trace_file"))
        return dataclasses.asdict(found)
    if kind == "estimate":
        if machine is None:
            raise RuntimeFailure("an estimate needs the machine's peak and bandwidth")
        return dataclasses.asdict(measuring.estimate_point(paths[0], specs[0], point, settings, machine))
    if kind == "pair":
        return dataclasses.asdict(pairs.time_pair((paths[0], paths[1]), (specs[0], specs[1]), point, settings))
    return dataclasses.asdict(pairs.compare_outputs((paths[0], paths[1]), specs[1], point, settings))
