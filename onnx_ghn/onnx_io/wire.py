"""The protobuf wire format of a model, as far as tensors need it.

Protobuf copies every `raw_data` field when it parses and again when it serialises. Here the large ones
are taken out of the bytes first (`take_out`), leaving a skeleton of a few hundred KB with a 24-byte marker
in place of each, and put back when a file is written (`put_back`). So the weights are held once, sizes are
known without touching data, and a file is written tensor by tensor.

Wire format: https://protobuf.dev/programming-guides/encoding/ ; field numbers: onnx/onnx.proto.
"""

from __future__ import annotations

import bisect
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeAlias, TypeVar, overload

__all__ = ["EXTRACT_BYTES", "Payloads", "Window", "WireError", "put_back", "take_out", "take_out_parts"]

EXTRACT_BYTES = 1024  # a raw_data field larger than this is taken out
_WINDOW_BYTES = 1 << 15
_MAX_DEPTH = 100  # as protobuf's own parser; deeper messages are left for it to refuse

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

# Which fields of which message can lead to a TensorProto.raw_data.
_Schema = dict[int, "_Schema"]
_RAW_DATA: _Schema = {}
_TENSOR: _Schema = {9: _RAW_DATA}
_SPARSE: _Schema = {1: _TENSOR, 2: _TENSOR}
_ATTRIBUTE: _Schema = {5: _TENSOR, 10: _TENSOR, 22: _SPARSE, 23: _SPARSE}
_NODE: _Schema = {5: _ATTRIBUTE}
_GRAPH: _Schema = {1: _NODE, 5: _TENSOR, 15: _SPARSE}
_ATTRIBUTE[6] = _ATTRIBUTE[11] = _GRAPH
_FUNCTION: _Schema = {7: _NODE, 11: _ATTRIBUTE}
_MODEL: _Schema = {7: _GRAPH, 25: _FUNCTION}


Item = TypeVar("Item")  # what a marker stands for


class _Taker(Protocol):
    def add(self, item: memoryview, /) -> bytes: ...


class WireError(ValueError):
    """The bytes are not a protobuf message."""


class Payloads(Generic[Item]):
    """What the markers in a skeleton stand for. The prefix is random, so no file can contain a forged one."""

    def __init__(self) -> None:
        self.prefix = secrets.token_bytes(16)
        self.items: list[Item] = []

    def add(self, item: Item) -> bytes:
        """Store `item`; its marker."""
        self.items.append(item)
        return self.prefix + (len(self.items) - 1).to_bytes(8, "little")

    def index(self, marker: bytes | memoryview) -> int | None:
        """The place of the item that `marker` stands for, or None where it is ordinary data."""
        if len(marker) != 24 or marker[:16] != self.prefix:
            return None
        place = int.from_bytes(marker[16:], "little")
        return place if place < len(self.items) else None

    def get(self, marker: bytes) -> Item | None:
        """The item that `marker` stands for, or None where it is ordinary data."""
        place = self.index(marker)
        return None if place is None else self.items[place]


class Window:
    """The bytes of a file by their place, of which some that lie together are in memory at a time.

    Args:
        read: gives so many bytes from a place on; fewer at the end of the file.
        size: of the file.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read = read
        self._size = size
        self._start = 0
        self._held = b""

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> bytes: ...
    def __getitem__(self, place: int | slice) -> int | bytes:
        """Raises WireError: the file ends before."""
        start, length = (place, 1) if isinstance(place, int) else (place.start, place.stop - place.start)
        begin = start - self._start
        if begin < 0 or begin + length > len(self._held):
            self._held, self._start, begin = self._read(start, max(length, _WINDOW_BYTES)), start, 0
            if len(self._held) < length:
                raise WireError("the file has shrunk")
        return self._held[begin] if isinstance(place, int) else self._held[begin : begin + length]


_Bytes: TypeAlias = memoryview | Window


def _read_varint(data: _Bytes, at: int, end: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= end or shift > 63:
            raise WireError("a varint runs past its end")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _fields(data: _Bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(tag, start of field, start of length, start of payload, end) of each length-delimited field."""
    at = start
    while at < end:
        field = at
        tag, at = _read_varint(data, at, end)
        kind = tag & 7
        if kind == _LENGTH:
            length_at = at
            length, at = _read_varint(data, at, end)
            if length > end - at:
                raise WireError("a field is longer than its message")
            yield tag, field, length_at, at, at + length
            at += length
        elif kind == _VARINT:
            _, at = _read_varint(data, at, end)
        elif kind == _FIXED32:
            at += 4
        elif kind == _FIXED64:
            at += 8
        else:
            # Groups: obsolete, in no ONNX message.
            raise WireError("a group field")
    if at != end:
        raise WireError("a field is longer than its message")


def take_out(data: memoryview, payloads: _Taker) -> bytes:
    """A serialised ModelProto without its large raw_data fields, which go to `payloads` as views."""
    return take_out_parts(data, lambda start, stop: payloads.add(data[start:stop]))


def take_out_parts(data: memoryview | Window, add: Callable[[int, int], bytes]) -> bytes:
    """A serialised ModelProto without its large raw_data fields.

    Args:
        add: given where such a field starts and ends, returns what is to stand in its place.
    """
    return _take_out(data, 0, len(data), _MODEL, add, 0)


def _take_out(
    data: _Bytes, start: int, end: int, schema: _Schema, add: Callable[[int, int], bytes], depth: int
) -> bytes:
    pieces: list[bytes | memoryview] = []
    done = start
    for tag, _, length_at, payload, stop in _fields(data, start, end):
        if stop - payload <= EXTRACT_BYTES:
            continue
        inner = schema.get(tag >> 3)
        if inner is None or depth >= _MAX_DEPTH:
            continue
        body = add(payload, stop) if inner is _RAW_DATA else _take_out(data, payload, stop, inner, add, depth + 1)
        pieces += (data[done:length_at], _varint(len(body)), body)
        done = stop
    pieces.append(data[done:end])
    return b"".join(pieces)


def put_back(skeleton: bytes, payloads: Payloads[Item], sizes: Sequence[int]) -> tuple[list[bytes | int], int]:
    """The model as it goes to the file: bytes, and at its place the index of each payload; the total length.

    `sizes` are the lengths in bytes of the payloads.
    """
    markers: list[int] = []
    at = skeleton.find(payloads.prefix)
    while at >= 0:
        markers.append(at)
        at = skeleton.find(payloads.prefix, at + 24)
    pieces, length = _put_back(memoryview(skeleton), 0, len(skeleton), markers, payloads, sizes)
    merged: list[bytes | int] = []
    between: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, int):
            merged += (b"".join(between), piece)
            between.clear()
        else:
            between.append(piece)
    merged.append(b"".join(between))
    return merged, length


def _put_back(
    data: memoryview, start: int, end: int, markers: list[int], payloads: Payloads[Item], sizes: Sequence[int]
) -> tuple[list[bytes | int], int]:
    pieces: list[bytes | int] = []
    total, done = 0, start
    for _, _, length_at, payload, stop in _fields(data, start, end):
        nearest = bisect.bisect_left(markers, payload)
        if nearest == len(markers) or markers[nearest] >= stop:
            continue  # no marker inside: a field as it is
        body: list[bytes | int]
        place = payloads.index(data[payload:stop])
        if place is None:
            body, length = _put_back(data, payload, stop, markers, payloads, sizes)
        else:
            body, length = [place], sizes[place]
        head = bytes(data[done:length_at]) + _varint(length)
        pieces.append(head)
        pieces += body
        total += len(head) + length
        done = stop
    tail = bytes(data[done:end])
    if tail:
        pieces.append(tail)
    return pieces, total + len(tail)
