"""Which models name a file as their external data. It is asked before the file is replaced or removed.

Whatever lies in the folder is looked at, for a copy of a model may be called model.bak. The files are walked without
their tensors' data: a few reads for each tensor, whatever its size.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import time
from collections.abc import Iterator, Sequence

__all__ = ["data_locations", "naming_model"]

_WINDOW_BYTES = 1 << 13
_SKIPPED_BYTES = 1 << 18  # a message up to this is read at once, and looked into only where it may hold a location
_KEY = b"location"  # of the entry of external data that names the file
_MAX_FIELDS = 5_000_000  # of one file
_MAX_DEPTH = 100
_MAX_FILES = 20_000  # of one folder
_MAX_LOCATION_BYTES = 1 << 14
_MAX_VARINT_BYTES = 10
_SETTLED_NS = 2_000_000_000  # a file that was changed less long ago may change again without another time of change
_LEVELS_ABOVE = 4  # external data may lie in folders below the model's
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)

# Which fields of which message lead to a TensorProto.external_data (onnx/onnx.proto).
_Schema = dict[int, "_Schema"]
_ENTRY: _Schema = {}
_TENSOR: _Schema = {13: _ENTRY}
_SPARSE: _Schema = {1: _TENSOR, 2: _TENSOR}
_ATTRIBUTE: _Schema = {5: _TENSOR, 10: _TENSOR, 22: _SPARSE, 23: _SPARSE}
_NODE: _Schema = {5: _ATTRIBUTE}
_GRAPH: _Schema = {1: _NODE, 5: _TENSOR, 15: _SPARSE}
_ATTRIBUTE[6] = _ATTRIBUTE[11] = _GRAPH
_FUNCTION: _Schema = {7: _NODE, 11: _ATTRIBUTE}
_TRAINING: _Schema = {1: _GRAPH, 2: _GRAPH}
_MODEL: _Schema = {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION}


class _NoModelError(ValueError):
    """The bytes are no protobuf message."""


def naming_model(path: str, others: Sequence[str] = ()) -> str | None:
    """A model, in the folder of a file or in those above it, that names the file as its external data; None: none.

    In the folder itself every file is looked at, in those above it what ends in .onnx.

    Args:
        path: the file.
        others: files to look at wherever they lie.

    Raises:
        OSError: so many files lie there that it is not told.
    """
    file = _entry(path)
    folder = os.path.dirname(file)
    for level in range(1 + _LEVELS_ABOVE):
        for candidate in _candidates(folder, every=level == 0):
            if _names(candidate, file):
                return candidate
        if os.path.dirname(folder) == folder:
            break
        folder = os.path.dirname(folder)
    return next((other for other in others if _names(other, file)), None)


def _names(model: str, file: str) -> bool:
    """Whether a model that is another file names `file`, an entry of a folder."""
    if _entry(model) == file:
        return False
    for location in data_locations(model, damaged=True):
        with contextlib.suppress(OSError, ValueError):
            named = os.path.join(os.path.dirname(model), location)
            if file in (_entry(named), os.path.realpath(named)):
                return True
    return False


def _entry(path: str) -> str:
    """The one path of a name in a folder, of a link itself."""
    return os.path.join(os.path.realpath(os.path.dirname(path) or os.curdir), os.path.basename(path))


def _candidates(folder: str, *, every: bool) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            found = []
            for entry in entries:
                if every or entry.name.endswith(".onnx"):
                    found.append(entry.path)
                if len(found) > _MAX_FILES:
                    if every:
                        raise OSError(None, "too many files to look for what belongs together", folder)
                    return
    except (PermissionError, FileNotFoundError, NotADirectoryError):
        return
    yield from found


def data_locations(path: str, *, damaged: bool = False) -> frozenset[str]:
    """The locations of external data that a model file names; empty where the file is no model.

    Args:
        path: the file.
        damaged: give what a damaged or truncated file names before its fault, too.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # through a link: that names data beside itself
            return frozenset()
    except (OSError, ValueError):
        return frozenset()
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _SETTLED_NS:
        return _locations(path, damaged)
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return _known_locations(path, damaged, identity)


@functools.lru_cache(maxsize=2 * _MAX_FILES)
def _known_locations(path: str, damaged: bool, identity: tuple[int, ...]) -> frozenset[str]:
    """What a file names that is as it was: one command asks before its work, and again before it writes."""
    return _locations(path, damaged)


def _locations(path: str, damaged: bool) -> frozenset[str]:
    try:
        fd = os.open(path, _FLAGS)
    except (OSError, ValueError):
        return frozenset()
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return frozenset()
        walk = _Walk(fd, skips=damaged)
        try:
            walk.message(0, status.st_size, _MODEL, 0)
        except (OSError, _NoModelError):
            return frozenset(walk.locations if damaged else ())
        return frozenset(walk.locations)
    except OSError:
        return frozenset()
    finally:
        os.close(fd)


class _Walk:
    """Walks a file by its messages, through a window that is read anew where it ends.

    Args:
        skips: leave out, unchecked, what does not hold the word that stands before a location: a folder of models is
            looked through before each of its files is written, and most of them name none.
    """

    def __init__(self, fd: int, *, skips: bool) -> None:
        self.locations: set[str] = set()
        self._skips = skips
        self._fd = fd
        self._start = 0
        self._window = b""
        self._is_plain = True  # the window does not hold the word
        self._n_fields = 0

    def message(self, at: int, end: int, schema: _Schema, depth: int) -> None:
        """Collect the locations in a message at bytes `at` to `end`."""
        if depth > _MAX_DEPTH:
            raise _NoModelError
        if self._skips and self._holds_none(at, end):
            return
        key = ""
        while at < end:
            self._n_fields += 1
            if self._n_fields > _MAX_FIELDS:
                raise _NoModelError
            tag, at = self._varint(at, end)
            kind = tag & 7
            if not tag >> 3:
                raise _NoModelError
            if kind == _VARINT:
                _, at = self._varint(at, end)
            elif kind == _FIXED32:
                at += 4
            elif kind == _FIXED64:
                at += 8
            elif kind == _LENGTH:
                length, at = self._varint(at, end)
                if length > end - at:
                    raise _NoModelError
                if schema is _ENTRY and length <= _MAX_LOCATION_BYTES:
                    text = os.fsdecode(self._bytes(at, length))
                    if tag >> 3 == 1:
                        key = text
                    elif tag >> 3 == 2 and key == _KEY.decode():
                        self.locations.add(text)
                elif (
                    schema is not _ENTRY
                    and (inner := schema.get(tag >> 3)) is not None
                    and (not self._skips or not self._holds_none(at, at + length))
                ):
                    self.message(at, at + length, inner, depth + 1)
                at += length
            else:
                raise _NoModelError
        if at != end:
            raise _NoModelError

    def _holds_none(self, at: int, end: int) -> bool:
        """Whether a message, one that is not too large to be read for that, does not hold the word."""
        if self._is_plain and self._start <= at and end <= self._start + len(self._window):
            return True
        return end - at <= _SKIPPED_BYTES and _KEY not in self._bytes(at, end - at)

    def _bytes(self, at: int, length: int) -> bytes:
        begin = at - self._start
        if begin < 0 or begin + length > len(self._window):
            self._look(at, length)
            begin = 0
        return self._window[begin : begin + length]

    def _look(self, at: int, length: int) -> None:
        """Move the window to a byte, and make it at least as long as is asked for."""
        os.lseek(self._fd, at, os.SEEK_SET)
        self._window, self._start = os.read(self._fd, max(_WINDOW_BYTES, length)), at
        self._is_plain = _KEY not in self._window

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        begin = at - self._start
        if begin < 0 or begin + _MAX_VARINT_BYTES > len(self._window):
            self._look(at, _MAX_VARINT_BYTES)
            begin = 0
        found = shift = 0
        for byte in self._window[begin : min(begin + _MAX_VARINT_BYTES, begin + end - at)]:
            at += 1
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return found, at
            shift += 7
        raise _NoModelError
