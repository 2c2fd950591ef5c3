"""Files that grow as results come, and are gone on with after a stop."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from onnx_ghn.errors import ModelWriteError
from onnx_ghn.locks import try_lock
from onnx_ghn.onnx_io.references import naming_model

__all__ = ["open_to_continue"]

# O_NONBLOCK: opening a FIFO must not wait for a reader.
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FLAGS |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@contextlib.contextmanager
def open_to_continue(path: str | os.PathLike[str]) -> Iterator[int]:
    """Context with a descriptor to read and write a file, made if absent, which no other process may hold.

    Raises:
        ModelWriteError: the file is a link, has another name too, or is no regular file, so that writing would change
            what lies elsewhere; it holds the weights of a model; another process is writing it.
        OSError: it cannot be opened.
    """
    name = os.fspath(path)
    if os.path.islink(name):
        raise ModelWriteError(f"{name}: is a link to {os.path.realpath(name)}; name that file, or another one")
    fd = os.open(name, _FLAGS, 0o666)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ModelWriteError(f"{name}: is a device, pipe or socket; name another file")
        if status.st_nlink > 1:
            raise ModelWriteError(
                f"{name}: has {status.st_nlink} hard links, and writing would change them all; name another file"
            )
        if status.st_size and (model := naming_model(name)) is not None:
            raise ModelWriteError(f"{name}: holds weights of the model {model}; name another file")
        if try_lock(fd) is False:
            raise ModelWriteError(f"{name}: another process is writing it; wait, or name another file")
        yield fd
    finally:
        os.close(fd)
