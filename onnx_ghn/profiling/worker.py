"""The program of a process of its own: one job in, one result out, both JSON.

A process for each point makes its peak memory its own, and whatever happens to it (a crash, a kill for want of
memory, a run that never ends) happens to that point alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from onnx_ghn.errors import OnnxGhnError, RuntimeFailure

__all__ = ["main"]


def main(job: Mapping[str, object]) -> None:
    """Do a job (`Job`, as JSON has it); its result, or {"error": ...}, is all that goes to stdout."""
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


def _run(entries: Mapping[str, object]) -> dict[str, object]:
    import dataclasses

    # All of onnxruntime is loaded before anything of it is measured.
    import onnxruntime  # noqa: F401

    from onnx_ghn.profiling import measuring, pairs
    from onnx_ghn.profiling.jobs import Job
    from onnx_ghn.profiling.machine import measure_machine
    from onnx_ghn.profiling.own_process import bound_memory
    from onnx_ghn.profiling.restoring import restored

    job = restored(Job, entries)
    point, settings, paths, specs = job.point, job.settings, job.paths, job.specs
    if point.provider == "CPUExecutionProvider":
        bound_memory()  # other providers map far more than they use
    if job.kind == "machine":
        return measure_machine(point.provider, point.threads).to_dict()
    if job.kind == "measure":
        found = measuring.measure_point(paths[0], specs[0], point, settings, job.machine, job.trace_file)
        return dataclasses.asdict(found)
    if job.kind == "estimate":
        if job.machine is None:
            raise RuntimeFailure("an estimate needs the machine's peak and bandwidth")
        return dataclasses.asdict(measuring.estimate_point(paths[0], specs[0], point, settings, job.machine))
    if job.kind == "pair":
        return pairs.time_pair((paths[0], paths[1]), (specs[0], specs[1]), point, settings).to_dict()
    return pairs.compare_outputs((paths[0], paths[1]), specs[1], point, settings).to_dict()
