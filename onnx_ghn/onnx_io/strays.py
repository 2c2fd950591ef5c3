"""Files under construction: their names, and the removal of those whose writer was killed.

A writer holds a lock on each of its files while it lives. A file of such a name that nobody holds is a stray.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat

from onnx_ghn.locks import abandoned, try_lock

__all__ = ["claim", "create_stray", "fitting", "remove_strays", "stray_name"]

_MAX_NAME_BYTES = 255  # of every usual file system
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_STRAY = re.compile(r"\..*\.onnx-ghn-(?:[0-9a-f]{8}|claim)\.tmp", re.DOTALL)
_ATTEMPTS = 16


def fitting(name: str, ending: str) -> str:
    """`name` and `ending`; a name that would be too long for the file system is cut, and told apart by a hash."""
    if len(os.fsencode(name + ending)) <= _MAX_NAME_BYTES:
        return name + ending
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    while len(os.fsencode(f"{name}-{digest}{ending}")) > _MAX_NAME_BYTES:
        name = name[:-1]
    return f"{name}-{digest}{ending}"


def stray_name(name: str) -> str:
    """A name for a file that will be called `name`."""
    return fitting(f".{name}", f".onnx-ghn-{secrets.token_hex(4)}.tmp")


def create_stray(folder: str, name: str, mode: int) -> tuple[int, str]:
    """Make a file that will be called `name`, and lock it: its descriptor and path. Raises OSError."""
    for _ in range(_ATTEMPTS):
        path = os.path.join(folder, stray_name(name))
        fd = _create_locked(path, mode)
        if fd is not None:
            return fd, path
    raise FileExistsError(None, "other processes remove what is made", folder)


def claim(folder: str, name: str) -> tuple[int, str] | None:
    """Claim a name that does not exist for this process: the descriptor and path of what stands for the claim.

    Returns:
        None where another process has it.

    Raises:
        OSError: nothing can be made in the folder.
    """
    path = os.path.join(folder, fitting(f".{name}", ".onnx-ghn-claim.tmp"))
    try:
        fd = _create_locked(path, 0o600)
    except FileExistsError:
        return None
    return None if fd is None else (fd, path)


def _create_locked(path: str, mode: int) -> int | None:
    """A new file, locked; None where it is removed as a stray before it was locked."""
    fd = os.open(path, _CREATE, mode)
    with contextlib.suppress(OSError):
        if try_lock(fd) is not False and os.path.samestat(os.fstat(fd), os.lstat(path)):
            return fd
    os.close(fd)
    return None


def remove_strays(folder: str) -> None:
    """Remove the files of writers that were killed; those of others, and what cannot be judged, stay."""
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            found = [entry.path for entry in entries if _STRAY.fullmatch(entry.name)]
        for path in found:
            status = os.lstat(path)
            own = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
            if own and stat.S_ISREG(status.st_mode):
                with abandoned(path) as is_stray:
                    if is_stray:
                        os.unlink(path)
