"""Temporary folders, which the next run removes where this one is killed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from onnx_ghn.locks import abandoned, try_lock

__all__ = ["scratch_folder"]

_PREFIX, _LOCK = "onnx-ghn-", ".lock"
_NAME = re.compile(r"\.?onnx-ghn-[a-z0-9_]{8}")
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


@contextlib.contextmanager
def scratch_folder(beside: str | None = None) -> Iterator[Path]:
    """Context with a folder for temporary files. Those that killed runs of this user have left there are removed.

    Args:
        beside: the folder in which to make it, hidden; that of temporary files ($TMPDIR) where it is None.

    Raises:
        OSError: it cannot be made.
    """
    home = tempfile.gettempdir() if beside is None else beside
    _remove_strays(home)
    prefix = _PREFIX if beside is None else f".{_PREFIX}"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=home, ignore_cleanup_errors=True) as folder:
        begun = os.path.join(folder, f"{_LOCK}.begun")
        fd = os.open(begun, _CREATE, 0o600)
        try:
            if try_lock(fd):  # before it has the name by which others judge: nobody sees it unlocked
                os.rename(begun, os.path.join(folder, _LOCK))
            yield Path(folder)
        finally:
            os.close(fd)


def _remove_strays(home: str) -> None:
    """A folder of ours whose lock nobody holds is a stray; one without a lock is another program's, or just begun."""
    with contextlib.suppress(OSError):
        with os.scandir(home) as entries:
            found = [entry.path for entry in entries if _NAME.fullmatch(entry.name)]
        for path in found:
            lock = os.path.join(path, _LOCK)
            with contextlib.suppress(OSError):
                if _may_be_stray(path, lock):
                    with abandoned(lock) as is_stray:
                        if is_stray:
                            shutil.rmtree(path, ignore_errors=True)


def _may_be_stray(path: str, lock: str) -> bool:
    """Raises OSError: it is gone, or has no lock."""
    status = os.lstat(path)
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return False
    return stat.S_ISDIR(status.st_mode) and stat.S_ISREG(os.lstat(lock).st_mode)
