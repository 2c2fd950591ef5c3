"""Resident memory of this process, and a bound on it."""

from __future__ import annotations

import contextlib
import sys

from onnx_ghn.limits import memory_bytes

__all__ = ["bound_memory", "peak_bytes", "resident_bytes"]


def resident_bytes() -> int:
    """Now; where the system does not say, the peak."""
    return _status("VmRSS") or peak_bytes()


def peak_bytes() -> int:
    """The highest so far.

    Linux's getrusage carries the parent's peak over to a new program, /proc does not; elsewhere getrusage it is
    (kilobytes, but bytes on macOS); 0 on Windows, which has neither.
    """
    found = _status("VmHWM")
    if not found:
        with contextlib.suppress(ImportError):
            import resource

            unit = 1 if sys.platform == "darwin" else 1024
            found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return found


def bound_memory() -> None:
    """Let allocations fail above nine tenths of the machine's memory, before the system starts to kill processes."""
    if sys.platform != "linux":
        return
    import resource

    limit = int(memory_bytes() * 0.9)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or hard > limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _status(key: str) -> int:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(f"{key}:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0
