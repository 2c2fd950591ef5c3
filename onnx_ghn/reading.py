"""Opening and reading regular files alone: a pipe would be waited for, and a device has no end."""

from __future__ import annotations

import json
import os
import stat

from onnx_ghn.errors import CheckpointError

__all__ = ["open_regular", "read_json", "read_regular"]

# O_NONBLOCK: opening a FIFO must not wait for somebody to write to it. O_BINARY is Windows'.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def open_regular(path: str | os.PathLike[str], largest_bytes: int | None = None) -> int:
    """A descriptor of a regular file, which the caller closes.

    Raises:
        OSError: it cannot be opened, is no regular file, or is larger than `largest_bytes`; `strerror` says it.
    """
    fd = os.open(path, _FLAGS)
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and (largest_bytes is None or status.st_size <= largest_bytes):
        return fd
    os.close(fd)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(None, "is a directory", os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(None, "is a device, pipe or socket, not a regular file", os.fspath(path))
    raise OSError(None, f"has {status.st_size:,} bytes, more than {largest_bytes:,}", os.fspath(path))


def read_regular(path: str | os.PathLike[str], largest_bytes: int | None = None) -> bytes:
    """The content of a regular file. Raises OSError as `open_regular` does."""
    with open(open_regular(path, largest_bytes), "rb", buffering=0) as file:
        return file.readall() if largest_bytes is None else file.read(largest_bytes) or b""


def read_json(path: str | os.PathLike[str], largest_bytes: int, what: str) -> object:
    """What a JSON file beside a GHN's weights holds.

    Args:
        what: the file is, for the message: "config".

    Raises:
        CheckpointError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(read_regular(path, largest_bytes))
    except OSError as error:
        raise CheckpointError(f"{path}: unreadable {what} ({error.strerror}); is it a GHN's?") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: unreadable {what} ({error})") from error
