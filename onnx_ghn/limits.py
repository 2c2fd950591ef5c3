"""What this machine can hold, asked before a foreign file's numbers make us allocate."""

from __future__ import annotations

import contextlib
import os

__all__ = ["gib", "memory_bytes"]

_UNKNOWN_BYTES = 16 << 30  # where the system does not say (Windows)
_CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_bytes() -> int:
    """Memory that this process may use at most: of the machine, or of its container where that is less."""
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        found = _UNKNOWN_BYTES
    if found <= 0:
        found = _UNKNOWN_BYTES
    for path in _CGROUP_FILES:
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            found = min(found, int(file.read(32)))  # "max" where there is no limit
    return found


def gib(size_bytes: float) -> str:
    """A size for messages."""
    return f"{size_bytes / 2**30:,.1f} GiB"
