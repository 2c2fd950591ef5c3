"""What this machine can hold, asked before the numbers in a foreign file make us allocate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = ["available_cores", "gib", "memory_bytes"]

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_CGROUP_FILES = ("memory.max", "memory.high", "memory.limit_in_bytes")  # of version 2, and of version 1


def memory_bytes() -> int:
    """Memory that this process may use at most: that of the machine, of its container or group of processes, or what
    its own limits (`ulimit -v`, `ulimit -d`) leave, whichever is least.
    """
    return min([int(psutil.virtual_memory().total), *_cgroup_limits(), *_own_limits()])


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
        # Libraries reserve far more addresses than they use memory.
        used = psutil.Process().memory_info()
        yield max(0, space - used.vms) + used.rss


def available_cores() -> list[int]:
    """The processor cores that this process may use."""
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        return sorted(process.cpu_affinity())
    return list(range(psutil.cpu_count() or 1))


def gib(size_bytes: float) -> str:
    """A size for messages."""
    return f"{size_bytes / 2**30:,.1f} GiB"
