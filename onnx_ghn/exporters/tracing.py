"""Which element of an ONNX file is which element of a live model, whatever the exporter did on the way.

Before the export every weight of the model gets a value that no other has; afterwards the file's tensors tell where
each went. Transposed, reshaped, split, concatenated, reordered: all are the same to it. What was computed (folded batch
norms, fused or quantised weights) is found nowhere and is named.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import CheckpointError, GraphError

__all__ = ["Codes", "Regular", "Trace"]

Array = npt.NDArray[Any]

# Codes are float32 numbers from 2^-24 on: small, so that what the exporter computes with them stays finite. Those of
# matrices alternate in sign, so that sums over channels stay small too; vectors stay positive, as variances must.
# Those whose last byte is 0 are left out, and with them every number that people write: 0.5, 1, 8, 1024.
_FIRST = int(np.float32(2.0**-24).view(np.int32))
_LAST = int(np.float32(2.0**100).view(np.int32))
_BYTE = 256
_OCTAVE = 1 << 23
_CHUNK = 1 << 22  # elements looked at together: what one pass needs of memory
_VERSION = 1


class Codes:
    """Values for the weights of a model, each element's its own.

    Args:
        shapes: by name, in a fixed order.
        octaves: how many powers of two above the usual ones the values begin, fewer where there is no room: another
            code of the same elements.

    Raises:
        GraphError: more elements than there are values (about a billion).
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], octaves: int = 0) -> None:
        self.shapes = dict(shapes)
        sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self.shapes.values()]
        self._names = list(self.shapes)
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        free = _LAST - _FIRST - int(self._starts[-1]) * _BYTE // (_BYTE - 1)
        if free < 0:
            raise GraphError(f"{self._starts[-1]:,} weights are too many to tell apart; load them by name")
        self._first = _FIRST + min(octaves * _OCTAVE, free // _BYTE * _BYTE)

    def values(self, name: str) -> npt.NDArray[np.float32]:
        """The float32 array to give to a weight."""
        index = self._names.index(name)
        number = np.arange(*self._starts[index : index + 2])
        bits = self._first + number // (_BYTE - 1) * _BYTE + number % (_BYTE - 1) + 1
        values = bits.astype(np.int32).view(np.float32)
        if len(self.shapes[name]) > 1:
            values[1::2] *= -1
        return values.reshape(self.shapes[name])

    def numbers(self, values: Array) -> npt.NDArray[np.int64]:
        """Which element each value of a tensor is, in the order of `shapes`; -1 for none. Flat."""
        found = np.full(values.size, -1, dtype=np.int64)
        if values.dtype not in (np.float32, np.float64):
            return found
        flat = values.ravel()
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK]
            with np.errstate(over="ignore", invalid="ignore"):
                exact = part.astype(np.float32)
            high, low = np.divmod(np.abs(exact).view(np.int32).astype(np.int64) - self._first, _BYTE)
            numbers = high * (_BYTE - 1) + low - 1
            valid = (low > 0) & (numbers >= 0) & (numbers < self._starts[-1]) & (exact == part)
            found[start : start + _CHUNK] = np.where(valid, numbers, -1)
        return found

    def trace(self, stored: Mapping[str, Array]) -> Trace:
        """Find every element among the tensors of the exported file.

        Args:
            stored: the file's tensors by name.
        """
        where = np.full(int(self._starts[-1]), -1, dtype=np.int64)  # of an element: its place in all, end to end
        names, shapes, offset = [], [], 0
        # The largest first: what a constant and a weight may share by chance belongs to the weight.
        for name, values in sorted(stored.items(), key=lambda item: -item[1].size):
            numbers = self.numbers(values)
            found = np.flatnonzero(numbers >= 0)
            found = found[where[numbers[found]] < 0]
            if not len(found):
                continue
            where[numbers[found]] = offset + found
            names.append(name)
            shapes.append(values.shape)
            offset += values.size
        places: dict[str, Places] = {}
        missing: dict[str, int] = {}
        for name, start, stop in zip(self._names, self._starts[:-1], self._starts[1:], strict=True):
            part = where[start:stop]
            lost = int((part < 0).sum())
            if lost:
                missing[name] = lost
            else:
                places[name] = Regular.of(part, self.shapes[name]) or part
        return Trace(dict(self.shapes), dict(zip(names, shapes, strict=True)), places, missing)

    def restored(self, values: Array, originals: Mapping[str, Array]) -> Array | None:
        """A tensor of the exported file with the model's own values in place of codes; None where it has none.

        Args:
            originals: the model's weights by name.
        """
        numbers = self.numbers(values)
        # One number alone may be a constant that is a code by chance: then it belongs to no weight of one element.
        if values.size == 1 and numbers[0] >= 0:
            owner = self._owner(int(numbers[0]))
            if int(np.prod(self.shapes[owner], dtype=np.int64)) != 1:
                return None
        found = np.flatnonzero(numbers >= 0)
        if not len(found):
            return None
        result = values.ravel().copy()
        owners = np.searchsorted(self._starts, numbers[found], side="right") - 1
        for owner in np.unique(owners):
            mine = found[owners == owner]
            own = np.asarray(originals[self._names[owner]]).ravel()
            result[mine] = own[numbers[mine] - self._starts[owner]]
        return result.reshape(values.shape)

    def _owner(self, number: int) -> str:
        return self._names[int(np.searchsorted(self._starts, number, side="right")) - 1]


@dataclasses.dataclass(frozen=True)
class Regular:
    """Places that lie regularly, as after any permutation and reshape: first place, and a step for each axis."""

    first: int
    steps: tuple[int, ...]

    @classmethod
    def of(cls, places: npt.NDArray[np.int64], shape: tuple[int, ...]) -> Regular | None:
        """The same places in that form, where they have it."""
        if not places.size:
            return cls(0, (0,) * len(shape))
        block = places.reshape(shape)
        origin = (0,) * len(shape)
        first = int(block[origin])
        steps = []
        for axis, size in enumerate(shape):
            second = (*origin[:axis], 1, *origin[axis + 1 :])
            steps.append(int(block[second]) - first if size > 1 else 0)
        regular = cls(first, tuple(steps))
        return regular if np.array_equal(block, regular.indices(shape)) else None

    def indices(self, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
        """The places as an array of the weight's shape."""
        total = np.full(shape, self.first, dtype=np.int64)
        for axis, (size, step) in enumerate(zip(shape, self.steps, strict=True)):
            total += (np.arange(size) * step).reshape((-1,) + (1,) * (len(shape) - axis - 1))
        return total

    def last(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The lowest and the highest place."""
        ends = [(size - 1) * step for size, step in zip(shape, self.steps, strict=True)]
        return self.first + sum(min(0, end) for end in ends), self.first + sum(max(0, end) for end in ends)


Places = Regular | npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Trace:
    """Where each weight of a model is in an ONNX file.

    Attributes:
        shapes: of the model's weights.
        stored: shapes of the file's tensors that hold them, in the order in which `places` counts.
        places: for each weight that was found whole, its elements' places in the stored tensors laid end to end.
            Flat where they are an array.
        missing: for each other, how many of its elements are nowhere.
    """

    shapes: dict[str, tuple[int, ...]]
    stored: dict[str, tuple[int, ...]]
    places: dict[str, Places]
    missing: dict[str, int]

    def collect(self, stored: Mapping[str, Array]) -> dict[str, Array]:
        """The model's weights from the file's tensors.

        Raises:
            CheckpointError: a tensor is absent or has another shape: the file is not of this model.
        """
        parts = []
        for name, shape in self.stored.items():
            if name not in stored or tuple(stored[name].shape) != shape:
                found = "is absent" if name not in stored else f"is {tuple(stored[name].shape)}"
                raise CheckpointError(f"tensor {name} {found}, {shape} in the export of this model; export it again")
            parts.append(stored[name].ravel())
        everything = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        found = {}
        for name, places in self.places.items():
            shape = self.shapes[name]
            if isinstance(places, Regular):
                steps = [step * everything.itemsize for step in places.steps]
                window = np.lib.stride_tricks.as_strided(everything[places.first :], shape, steps, writeable=False)
                found[name] = window.copy()
            else:
                found[name] = everything[places].reshape(shape)
        return found

    def renamed(self, names: Sequence[str]) -> Trace:
        """The same weights in the same order under other names; as it is where they are not as many."""
        if len(names) != len(self.shapes):
            return self
        new = dict(zip(self.shapes, names, strict=True))
        return Trace(
            {new[name]: shape for name, shape in self.shapes.items()},
            self.stored,
            {new[name]: places for name, places in self.places.items()},
            {new[name]: count for name, count in self.missing.items()},
        )

    def to_json(self) -> str:
        """As text that fits into a model's metadata: bytes for each weight, unless it was cut into pieces."""
        places = {
            name: [place.first, place.steps] if isinstance(place, Regular) else _packed(np.diff(place, prepend=0))
            for name, place in self.places.items()
        }
        record = {
            "version": _VERSION,
            "shapes": self.shapes,
            "stored": self.stored,
            "places": places,
            "missing": self.missing,
        }
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Trace:
        """What `to_json` wrote. Raises CheckpointError."""
        try:
            record = json.loads(text)
            if record["version"] != _VERSION:
                raise CheckpointError(f"a trace of version {record['version']}; written by a newer onnx-ghn?")
            shapes = {name: tuple(int(n) for n in shape) for name, shape in record["shapes"].items()}
            stored = {name: tuple(int(n) for n in shape) for name, shape in record["stored"].items()}
            total = sum(int(np.prod(shape, dtype=np.int64)) for shape in stored.values())
            places = {name: _read(place, shapes[name], total) for name, place in record["places"].items()}
            missing = {str(name): int(count) for name, count in record["missing"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error) as error:
            raise CheckpointError(f"the model's trace is damaged ({error}); export it again") from error
        return cls(shapes, stored, places, missing)


def _read(place: Any, shape: tuple[int, ...], total: int) -> Places:
    """The places of a weight, none of them outside the file's tensors."""
    count = int(np.prod(shape, dtype=np.int64))
    if isinstance(place, str):
        return _unpacked(place, count, total)
    first, steps = place
    regular = Regular(int(first), tuple(int(step) for step in steps))
    low, high = regular.last(shape)
    if count and (low < 0 or high >= total):
        raise ValueError("a place outside the file's tensors")
    return regular


def _packed(steps: npt.NDArray[np.int64]) -> str:
    return base64.b85encode(zlib.compress(steps.astype("<i8").tobytes(), 9)).decode("ascii")


def _unpacked(text: str, count: int, total: int) -> npt.NDArray[np.int64]:
    """Places of a weight of `count` elements; a text that unpacks to more is refused before it fills the memory."""
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b85decode(text), 8 * count + 1)
    if len(data) != 8 * count:
        raise ValueError(f"{len(data)} bytes for {count} elements")
    places = np.cumsum(np.frombuffer(data, "<i8"))
    if count and (places.min() < 0 or places.max() >= total):
        raise ValueError("a place outside the file's tensors")
    return places
