"""What this machine can hold, asked before the numbers in a foreign file make us allocate."""

from __future__ import annotations

import contextlib

import psutil

__all__ = ["available_cores", "gib", "memory_bytes"]

# psutil tells the memory of the machine, not the limit of a container on it.
_CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_bytes() -> int:
    """Memory that this process may use at most: that of the machine, or that of its container if it is less."""
    found: int = psutil.virtual_memory().total
    for path in _CGROUP_FILES:
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            found = min(found, int(file.read(32)))  # "max" where there is no limit
    return found


def available_cores() -> list[int]:
    """The processor cores that this process may use."""
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        return sorted(process.cpu_affinity())
    return list(range(psutil.cpu_count() or 1))


def gib(size_bytes: float) -> str:
    """A size for messages."""
    return f"{size_bytes / 2**30:,.1f} GiB"
