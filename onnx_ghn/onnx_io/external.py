"""External data: opening the files that a model names without leaving the model's folder.

The checks answer what ONNX's own readers had to mend: `..` (CVE-2022-25882, CVE-2024-27318), reads out of
bounds (CVE-2024-27319), symlinks in any part of the path (CVE-2026-27489, CVE-2026-34447), hardlinks
(CVE-2026-34446), unknown keys and huge allocations (CVE-2026-34445). A file is checked through the
descriptor that is then read, so nobody can exchange it in between.
"""

from __future__ import annotations

import os
import re
import stat
import weakref
from typing import TYPE_CHECKING

from onnx_ghn.errors import ModelReadError

if TYPE_CHECKING:
    import onnx

    from onnx_ghn.arrays import Array

__all__ = ["AbsentData", "DataFile", "DataFolder", "FileSlice", "ModelFile", "OpenFile"]

_KEYS = frozenset({"location", "offset", "length", "checksum"})
_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)
# O_NONBLOCK: opening a FIFO must not wait for a writer. O_BINARY is Windows'.
_OPEN_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_PIECE_BYTES = 1 << 24
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)


class OpenFile:
    """An open file, of which nothing is read until it is asked for.

    It is read, never mapped into memory: where another program cuts a mapped file off, the process is killed.
    """

    def __init__(self, fd: int, path: str) -> None:
        self.path = path
        self.fd = fd
        self._close = weakref.finalize(self, os.close, fd)
        self.status = os.fstat(fd)
        self.size = self.status.st_size
        self.identity = (self.status.st_dev, self.status.st_ino)
        self._held: weakref.WeakValueDictionary[tuple[int, int], Array] = weakref.WeakValueDictionary()

    def check(self) -> None:
        """Raise ModelReadError where what was read is not what the file had."""

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes; empty at the end."""
        if hasattr(os, "pread"):
            return os.pread(self.fd, length, offset)
        os.lseek(self.fd, offset, os.SEEK_SET)  # Windows
        return os.read(self.fd, length)

    def view(self, offset: int, length: int) -> memoryview:
        """Bytes of the file, read once while anybody holds them. Raises ModelReadError: the file has shrunk."""
        held = self._held.get((offset, length))
        if held is None:
            import numpy as np  # only where data are read: targets are checked by this module, too

            held = np.empty(length, np.uint8)
            rest, at = held.data, offset
            while rest:
                count = self._read_into(rest[:_PIECE_BYTES], at)
                if not count:
                    raise ModelReadError(f"{self.path}: the file has shrunk since it was read; read the model again")
                rest, at = rest[count:], at + count
            self.check()
            held.flags.writeable = False
            self._held[offset, length] = held
        return held.data

    def _read_into(self, target: memoryview, offset: int) -> int:
        """How many bytes were read; 0 at the end."""
        if hasattr(os, "preadv"):  # without a copy on the way
            return os.preadv(self.fd, [target], offset)
        piece = self.read(offset, len(target))
        target[: len(piece)] = piece
        return len(piece)


class DataFile(OpenFile):
    """A file of external data."""

    def __init__(self, fd: int, path: str) -> None:
        super().__init__(fd, path)
        if not stat.S_ISREG(self.status.st_mode):
            raise ModelReadError(f"{path}: external data must be a regular file; copy it beside the model")
        if self.status.st_nlink > 1:
            raise ModelReadError(
                f"{path}: external data has {self.status.st_nlink} hard links, which may expose another file; "
                "copy it (cp) to a file of its own"
            )


class ModelFile(OpenFile):
    """A model file that is left on the disk while its model is in use."""

    def check(self) -> None:
        """Raises ModelReadError: another program has written to it, so that a tensor may be any bytes."""
        status = os.fstat(self.fd)
        if (status.st_size, status.st_mtime_ns) != (self.status.st_size, self.status.st_mtime_ns):
            raise ModelReadError(f"{self.path}: the file has changed since it was read; read the model again")


class FileSlice:
    """`length` bytes of a data file from `offset`."""

    __slots__ = ("file", "length", "offset")

    def __init__(self, file: OpenFile, offset: int, length: int) -> None:
        self.file = file
        self.offset = offset
        self.length = length

    def view(self) -> memoryview:
        """The bytes, read into memory."""
        return self.file.view(self.offset, self.length)

    def read(self, start: int, length: int) -> bytes:
        """`length` bytes from byte `start` on, without the others. Raises ModelReadError: the file has shrunk."""
        found = self.file.read(self.offset + start, length)
        if len(found) < length:
            raise ModelReadError(f"{self.file.path}: the file has shrunk since it was read; read the model again")
        self.file.check()
        return found


class AbsentData:
    """What stands for bytes that a data file should hold and does not: whoever asks for them gets the reason."""

    __slots__ = ("_error", "path")

    def __init__(self, path: str, error: ModelReadError) -> None:
        self.path = path  # of the file; "" where the model came without a folder
        self._error = error

    def view(self) -> memoryview:
        """Raises ModelReadError."""
        raise ModelReadError(str(self._error)) from self._error


class DataFolder:
    """The folder that a model's external data must lie in; None where there is none to look in.

    With `allow_absent`, files that are not there or too short (Git LFS pointers, broken downloads) are no error until
    somebody asks for their bytes.
    """

    def __init__(self, folder: str | None, label: str, *, allow_absent: bool = False) -> None:
        self._folder = folder
        self._label = label
        self._allow_absent = allow_absent
        self._files: dict[str, DataFile] = {}

    def slice(self, tensor: onnx.TensorProto, nbytes: int, what: str) -> FileSlice | AbsentData:
        """The data that a TensorProto refers to, checked against its size."""
        entries: dict[str, str] = {}
        for entry in tensor.external_data:
            if entry.key not in _KEYS:
                raise self._error(what, f"has the unknown external-data key {entry.key!r}")
            if entry.key in entries:
                raise self._error(what, f"repeats the external-data key {entry.key!r}")
            entries[entry.key] = entry.value
        if "location" not in entries:
            raise self._error(what, "names no external file")
        numbers = {}
        for key in ("offset", "length"):
            text = entries.get(key, "")
            if key in entries and not (isinstance(text, str) and _DIGITS.fullmatch(text)):
                raise self._error(what, f"has the external-data {key} {text!r}, not a count")
            numbers[key] = int(text) if text else None
        offset = numbers["offset"] or 0
        length = nbytes if numbers["length"] is None else numbers["length"]
        try:
            file = self._open(entries["location"], what)
        except _AbsentError as absent:
            if length != nbytes:
                raise self._error(what, f"needs {nbytes} bytes but its external data has {length}") from absent
            if not self._allow_absent:
                raise
            return AbsentData(absent.path, absent)
        if length != nbytes:
            raise self._error(what, f"needs {nbytes} bytes but its external data has {length}")
        if offset + length > file.size:
            error = self._error(
                what,
                f"lies at bytes {offset} to {offset + length} of {file.path}, which has {file.size}",
                "the file is truncated: copy it again",
            )
            if not self._allow_absent:
                raise error
            return AbsentData(file.path, error)
        return FileSlice(file, offset, length)

    def paths(self) -> list[str]:
        """The real paths of the files opened so far."""
        return sorted({os.path.realpath(file.path) for file in self._files.values()})

    def _error(self, what: str, text: str, remedy: str = "re-export the model") -> ModelReadError:
        return ModelReadError(self._message(what, text, remedy))

    def _message(self, what: str, text: str, remedy: str) -> str:
        return f"{self._label}: {what} {text}; {remedy}"

    def _open(self, location: str, what: str) -> DataFile:
        if location in self._files:
            return self._files[location]
        if not isinstance(location, str) or not location or "\0" in location:
            raise self._error(what, f"has the external-data location {location!r}, not a path")
        parts = re.split(r"[/\\]" if os.sep == "\\" else "/", location)
        # A backslash or a drive is an ordinary character here but not where the model may go next.
        suspicious = ".." in re.split(r"[/\\]", location) or re.match(r"[/\\]|[A-Za-z]:", location)
        if suspicious or os.path.isabs(location):
            raise self._error(
                what,
                f"has the external-data location {location!r}, outside the model's folder",
                "external data must lie in the folder of the model",
            )
        if self._folder is None:
            raise _AbsentError(
                self._message(what, "has external data but the model came without a folder", "pass `base_dir`"), ""
            )
        parts = [part for part in parts if part not in ("", ".")]
        path = os.path.join(self._folder, *parts)
        try:
            fd = _open_below(self._folder, parts)
        except OSError as error:
            if _crosses_symlink(self._folder, parts):
                raise self._error(
                    what, f"has external data behind a symbolic link, {path}", "copy the file into the folder"
                ) from error
            reason = (error.strerror or str(error)).lower()
            text = f"has external data in {path}, which cannot be read ({reason})"
            message = self._message(what, text, "keep it beside the model")
            if isinstance(error, FileNotFoundError):
                raise _AbsentError(message, path) from error
            raise ModelReadError(message) from error
        self._files[location] = file = DataFile(fd, path)
        return file


class _AbsentError(ModelReadError):
    """A data file that is not there, at `path`; "" where there is no folder to look in."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


def _open_below(folder: str, parts: list[str]) -> int:
    """Open a file below `folder` following no symlink."""
    if not parts:
        raise IsADirectoryError(None, "is a directory", folder)
    if os.open not in os.supports_dir_fd:  # Windows
        path = os.path.join(folder, *parts)
        if os.path.realpath(path) != os.path.join(os.path.realpath(folder), *parts):
            raise OSError(None, "a link", path)
        return os.open(path, _OPEN_FILE | _NO_FOLLOW)
    here = os.open(folder, os.O_RDONLY | _DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | _DIRECTORY | _NO_FOLLOW, dir_fd=here)
            os.close(here)
            here = below
        return os.open(parts[-1], _OPEN_FILE | _NO_FOLLOW, dir_fd=here)
    finally:
        os.close(here)


def _crosses_symlink(folder: str, parts: list[str]) -> bool:
    return any(os.path.islink(os.path.join(folder, *parts[: i + 1])) for i in range(len(parts)))
