"""This process: its resident memory, a bound on it, the cores that it runs on."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import psutil

from onnx_ghn.limits import memory_bytes

__all__ = ["bound_memory", "peak_bytes", "pin", "resident_bytes"]


def resident_bytes() -> int:
    """Resident memory now."""
    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """The highest resident memory so far.

    psutil tells it on Windows only. Linux's getrusage carries the parent's peak over to a new program, /proc does not;
    elsewhere it is getrusage's, which macOS gives in bytes and others in kilobytes.
    """
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform == "linux":
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def bound_memory() -> None:
    """Let allocations fail above nine tenths of the machine's memory, before the system starts to kill processes."""
    if sys.platform != "linux":
        return
    import resource

    limit = int(memory_bytes() * 0.9)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or hard > limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def pin(cores: Sequence[int]) -> None:
    """Run on these cores only, if any are given. Does nothing on macOS, which has no such setting."""
    process = psutil.Process()
    if cores and hasattr(process, "cpu_affinity"):
        process.cpu_affinity(list(cores))
