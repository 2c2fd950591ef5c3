"""Advisory locks on open files and folders. They end with the process, so a lock tells whether its holder lives."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator

__all__ = ["abandoned", "alone_in", "try_lock"]

_WAIT_S, _INTERVAL_S = 10.0, 0.02
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


def try_lock(fd: int) -> bool | None:
    """Lock an open file for this process alone, without waiting.

    Returns:
        True: it is locked until `fd` is closed; False: another open file holds the lock; None: there are no such
        locks here (Windows, some network file systems).
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


@contextlib.contextmanager
def abandoned(path: str) -> Iterator[bool]:
    """Context with whether no process that lives holds a lock of this file; False where it cannot be told.

    Where it is abandoned this process holds it meanwhile: who would lock it before it is removed finds it held.
    """
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        yield False
        return
    try:
        yield try_lock(fd) is True
    finally:
        os.close(fd)


@contextlib.contextmanager
def alone_in(folder: str) -> Iterator[bool]:
    """Context in which no other process of ours changes names in a folder; False where one does for ten seconds."""
    try:
        fd = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:  # Windows opens no folders
        yield True
        return
    try:
        deadline = time.monotonic() + _WAIT_S
        while (locked := try_lock(fd)) is False and time.monotonic() < deadline:
            time.sleep(_INTERVAL_S)
        yield locked is not False
    finally:
        os.close(fd)
