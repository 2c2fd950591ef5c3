"""What this machine can hold, asked before the numbers in a foreign file make us allocate."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_cores", "gib", "memory_bytes"]

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_CGROUP_FILES = ("memory.max", "memory.high", "memory.limit_in_bytes")  # of version 2, and of version 1


def memory_bytes() -> int:
    """Memory that this process may use at most: that of the machine, of its container or group of processes, or what
    its own limits (`ulimit -v`, `ulimit -d`) leave, whichever is least.
    """
    return min([_machine_bytes(), *_cgroup_limits(), *_own_limits()])


def _machine_bytes() -> int:
    """Where the system tells it psutil is not imported for it, which takes longer than much else at start-up."""
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has none, others may not know the names
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if found > 0:
            return found
    import psutil

    return int(psutil.virtual_memory().total)


def _cgroup_limits() -> Iterator[int]:
    """Of the control groups that this process is in, and of all around them."""
    folders = {_CGROUPS, _CGROUPS / "memory"}
    with contextlib.suppress(OSError, ValueError):
        for line in _OWN_CGROUPS.read_text("utf-8").splitlines():
            _, controllers, name = line.split(":", 2)
            root = _CGROUPS / "memory" if "memory" in controllers.split(",") else _CGROUPS
            if not controllers or root != _CGROUPS:
                group = root / name.lstrip("/")
                folders |= {folder for folder in (group, *group.parents) if folder.is_relative_to(root)}
    for folder in folders:
        for name in _CGROUP_FILES:
            with contextlib.suppress(OSError, ValueError), open(folder / name, encoding="ascii") as file:
                yield int(file.read(32))  # "max" where there is no limit


def _own_limits() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows
        return
    data = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if data != resource.RLIM_INFINITY:
        yield data
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space != resource.RLIM_INFINITY:
        import psutil

        # Libraries reserve far more addresses than they use memory.
        used = psutil.Process().memory_info()
        yield max(0, space - used.vms) + used.rss


def available_cores() -> list[int]:
    """The processor cores that this process may use."""
    import psutil

    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        return sorted(process.cpu_affinity())
    return list(range(psutil.cpu_count() or 1))


def gib(size_bytes: float) -> str:
    """A size for messages."""
    return f"{size_bytes / 2**30:,.1f} GiB"
