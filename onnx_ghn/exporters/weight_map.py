"""A map from the weights of a live model to the tensors of its ONNX file, whatever the exporter did in between.

Before the export, every element of every weight gets a value that no other element has. After it, these values show
where each element went. Tensors may be transposed, reshaped, split, concatenated or reordered. What the exporter
computed from weights (folded batch norms, fused or quantised weights) matches nothing, and the map names it.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from onnx_ghn.arrays import Array
from onnx_ghn.errors import CheckpointError, GraphError

__all__ = ["Array", "Codes", "Strided", "WeightMap"]


# Codes are float32 numbers from 2^-24 upwards: they are small, so that what the exporter computes with them is finite.
# The codes of matrices alternate in sign, so that sums over channels stay small too; those of vectors are positive, as
# variances must be. Numbers whose last byte is 0 are no codes, which excludes the constants that people write: 0.5, 1,
# 8, 1024.
_FIRST = int(np.float32(2.0**-24).view(np.int32))
_LAST = int(np.float32(2.0**100).view(np.int32))
_BYTE = 256
_OCTAVE = 1 << 23
_CHUNK = 1 << 22  # elements examined at a time, which bounds the memory of one pass
_VERSION = 1
_VERSION_WITH_SIGNS = 2  # a reader that knows no signs must not load such a file
# What reading a text that is no map of weights may end in.
_DAMAGED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
_LARGEST = 1 << 62  # elements of all tensors of a file


class Codes:
    """A different value for each element of a model's weights.

    Args:
        shapes: the shape of each weight by name, in a fixed order.
        octaves: multiplies the first code by this power of two, or a smaller one where there is no room. It gives a
            second code for the same elements.

    Raises:
        GraphError: there are more elements than codes (about a billion).
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], octaves: int = 0) -> None:
        self.shapes = dict(shapes)
        sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self.shapes.values()]
        self._names = list(self.shapes)
        self._alternates = np.array([len(shape) > 1 for shape in self.shapes.values()], dtype=bool)
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        free = _LAST - _FIRST - int(self._starts[-1]) * _BYTE // (_BYTE - 1)
        if free < 0:
            raise GraphError(f"{self._starts[-1]:,} weights are too many to tell apart; load them by name")
        self._first = _FIRST + min(octaves * _OCTAVE, free // _BYTE * _BYTE)

    def values(self, name: str) -> npt.NDArray[np.float32]:
        """The float32 array of codes for a weight."""
        index = self._names.index(name)
        element = np.arange(*self._starts[index : index + 2])
        bits = self._first + element // (_BYTE - 1) * _BYTE + element % (_BYTE - 1) + 1
        values = bits.astype(np.int32).view(np.float32)
        if len(self.shapes[name]) > 1:
            values[1::2] *= -1  # see `negated`
        return values.reshape(self.shapes[name])

    def elements(self, values: Array) -> npt.NDArray[np.int64]:
        """Read a tensor: which element, counted in the order of `shapes`, each value stands for; -1 for none.

        Returns:
            a flat array.
        """
        elements = np.full(values.size, -1, dtype=np.int64)
        if values.dtype not in (np.float32, np.float64):
            return elements
        flat = values.ravel()
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK]
            with np.errstate(over="ignore", invalid="ignore"):
                exact = part.astype(np.float32)
            high, low = np.divmod(np.abs(exact).view(np.int32).astype(np.int64) - self._first, _BYTE)
            candidates = high * (_BYTE - 1) + low - 1
            is_code = (low > 0) & (candidates >= 0) & (candidates < self._starts[-1]) & (exact == part)
            elements[start : start + _CHUNK] = np.where(is_code, candidates, -1)
        return elements

    def negated(self, values: Array, elements: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which values of a tensor are weights of the other sign, as exporters store them (TensorFlow: x · −w).

        Args:
            elements: what `elements` says of these values, flat.
        """
        owners = np.searchsorted(self._starts, elements, side="right") - 1
        is_negative = self._alternates[owners] & ((elements - self._starts[owners]) % 2 == 1)
        turned: npt.NDArray[np.bool_] = (np.signbit(values) != is_negative) & (elements >= 0)
        return turned

    def locate(self, stored: Mapping[str, Array]) -> WeightMap:
        """Find every element among the tensors of the exported file.

        Args:
            stored: the file's tensors by name.
        """
        # The place of each element in all mapped tensors, laid end to end.
        place_of = np.full(int(self._starts[-1]), -1, dtype=np.int64)
        names: list[str] = []
        shapes, offset = [], 0
        negated: set[int] = set()
        # The largest tensors come first: a value that a constant and a weight share by chance belongs to the weight.
        for name, values in sorted(stored.items(), key=lambda item: -item[1].size):
            elements = self.elements(values)
            coded = np.flatnonzero(elements >= 0)
            turned = self.negated(values.ravel()[coded], elements[coded])
            is_negated = len(coded) > 0 and bool(turned.all())
            if not is_negated:
                coded = coded[~turned]
            coded = coded[place_of[elements[coded]] < 0]
            if not len(coded):
                continue
            if is_negated:
                negated.add(len(names))
            place_of[elements[coded]] = offset + coded
            names.append(name)
            shapes.append(values.shape)
            offset += values.size
        places: dict[str, Places] = {}
        unmatched: dict[str, int] = {}
        for name, start, stop in zip(self._names, self._starts[:-1], self._starts[1:], strict=True):
            part = place_of[start:stop]
            n_unmatched = int((part < 0).sum())
            if n_unmatched:
                unmatched[name] = n_unmatched
            else:
                places[name] = Strided.of(part, self.shapes[name]) or part
        stored_shapes = dict(zip(names, shapes, strict=True))
        return WeightMap(dict(self.shapes), stored_shapes, places, unmatched, frozenset(negated))

    def decoded(self, values: Array, originals: Mapping[str, Array]) -> Array | None:
        """A tensor of the exported file with the model's own values in place of codes; None where it holds no code.

        Args:
            originals: the model's weights by name.
        """
        elements = self.elements(values)
        # A single number may be a constant that equals a code by chance. It is a weight only if that has one element.
        if values.size == 1 and elements[0] >= 0:
            owner = self._owner(int(elements[0]))
            if int(np.prod(self.shapes[owner], dtype=np.int64)) != 1:
                return None
        coded = np.flatnonzero(elements >= 0)
        if not len(coded):
            return None
        result = values.ravel().copy()
        owners = np.searchsorted(self._starts, elements[coded], side="right") - 1
        for index in np.unique(owners):
            owned = coded[owners == index]
            original = np.asarray(originals[self._names[index]]).ravel()
            result[owned] = original[elements[owned] - self._starts[index]]
        turned = coded[self.negated(values.ravel()[coded], elements[coded])]
        result[turned] *= -1
        return result.reshape(values.shape)

    def _owner(self, element: int) -> str:
        return self._names[int(np.searchsorted(self._starts, element, side="right")) - 1]


@dataclasses.dataclass(frozen=True)
class Strided:
    """Evenly spaced places, as any permutation of axes leaves them: an offset, and a stride for each axis."""

    offset: int
    strides: tuple[int, ...]

    @classmethod
    def of(cls, places: npt.NDArray[np.int64], shape: tuple[int, ...]) -> Strided | None:
        """These places as an offset and strides; None where they are not evenly spaced."""
        if not places.size:
            return cls(0, (0,) * len(shape))
        block = places.reshape(shape)
        origin = (0,) * len(shape)
        offset = int(block[origin])
        strides = []
        for axis, size in enumerate(shape):
            neighbour = (*origin[:axis], 1, *origin[axis + 1 :])
            strides.append(int(block[neighbour]) - offset if size > 1 else 0)
        strided = cls(offset, tuple(strides))
        return strided if np.array_equal(block, strided.indices(shape)) else None

    def indices(self, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
        """The places as an array of the weight's shape."""
        total = np.full(shape, self.offset, dtype=np.int64)
        for axis, (size, stride) in enumerate(zip(shape, self.strides, strict=True)):
            total += (np.arange(size) * stride).reshape((-1,) + (1,) * (len(shape) - axis - 1))
        return total

    def bounds(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The lowest and the highest place."""
        ends = [(size - 1) * stride for size, stride in zip(shape, self.strides, strict=True)]
        return self.offset + sum(min(0, end) for end in ends), self.offset + sum(max(0, end) for end in ends)


Places = Strided | npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class WeightMap:
    """Where each weight of a model is in an ONNX file.

    Attributes:
        shapes: the shapes of the model's weights.
        stored: the shapes of the file's tensors that hold them, in the order in which `places` counts.
        places: for each weight that the file holds whole, the places of its elements in the stored tensors, which are
            laid end to end. An array of places is flat.
        unmatched: for each other weight, how many of its elements the file does not hold.
        negated: numbers of the stored tensors that hold weights of the other sign.
    """

    shapes: dict[str, tuple[int, ...]]
    stored: dict[str, tuple[int, ...]]
    places: dict[str, Places]
    unmatched: dict[str, int]
    negated: frozenset[int] = frozenset()

    def collect(self, stored: Mapping[str, Array]) -> dict[str, Array]:
        """Gather the model's weights from the file's tensors.

        Raises:
            CheckpointError: a tensor is absent or has another shape, so the file is not of this model.
        """
        parts = []
        for number, (name, shape) in enumerate(self.stored.items()):
            if name not in stored or tuple(stored[name].shape) != shape:
                actual = "is absent" if name not in stored else f"is {tuple(stored[name].shape)}"
                raise CheckpointError(f"tensor {name} {actual}, {shape} in the export of this model; export it again")
            parts.append(-stored[name].ravel() if number in self.negated else stored[name].ravel())
        everything = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        weights: dict[str, Array] = {}
        for name, places in self.places.items():
            shape = self.shapes[name]
            if isinstance(places, Strided):
                strides = [stride * everything.itemsize for stride in places.strides]
                view = np.lib.stride_tricks.as_strided(everything[places.offset :], shape, strides, writeable=False)
                weights[name] = view.copy()
            else:
                weights[name] = everything[places].reshape(shape)
        return weights

    def renamed(self, names: Sequence[str]) -> WeightMap:
        """The same weights in the same order under other names; unchanged where the numbers of names differ."""
        if len(names) != len(self.shapes):
            return self
        new = dict(zip(self.shapes, names, strict=True))
        return WeightMap(
            {new[name]: shape for name, shape in self.shapes.items()},
            self.stored,
            {new[name]: places for name, places in self.places.items()},
            {new[name]: count for name, count in self.unmatched.items()},
            self.negated,
        )

    def to_json(self, repeated: Mapping[str, int] | None = None) -> str:
        """As text for a model's metadata: a few bytes for each weight, more where it was cut into pieces.

        Args:
            repeated: for stored tensors, how many of their values another place of the file holds, too.
        """
        places = {
            name: [p.offset, p.strides] if isinstance(p, Strided) else _compressed(np.diff(p, prepend=0))
            for name, p in self.places.items()
        }
        record: dict[str, object] = {
            "version": _VERSION_WITH_SIGNS if self.negated else _VERSION,
            "shapes": self.shapes,
            "stored": self.stored,
            "places": places,
            "missing": self.unmatched,
        }
        if repeated:
            record["repeated"] = dict(repeated)
        if self.negated:
            record["negated"] = sorted(self.negated)
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> WeightMap:
        """Read what `to_json` wrote.

        Raises:
            CheckpointError: the text is damaged, or of a newer version.
        """
        try:
            record = json.loads(text)
            if record["version"] not in (_VERSION, _VERSION_WITH_SIGNS):
                raise CheckpointError(
                    f"the file's map of weights has version {record['version']}, and this onnx-ghn reads up to "
                    f"{_VERSION_WITH_SIGNS}; install a newer onnx-ghn"
                )
            shapes = {name: _shape(shape) for name, shape in record["shapes"].items()}
            stored = {name: _shape(shape) for name, shape in record["stored"].items()}
            total = sum(math.prod(shape) for shape in stored.values())
            places = {name: _read(place, shapes[name], total) for name, place in record["places"].items()}
            unmatched = {str(name): int(count) for name, count in record["missing"].items()}
            negated = frozenset(int(number) for number in record.get("negated", ()))
        except (*_DAMAGED, zlib.error) as error:
            raise CheckpointError(f"the file's map of weights is damaged ({error}); export the model again") from error
        return cls(shapes, stored, places, unmatched, negated)


def _shape(sizes: Sequence[object]) -> tuple[int, ...]:
    found = tuple(size for size in sizes if type(size) is int and 0 <= size <= _LARGEST)
    if len(found) != len(sizes) or math.prod(size or 1 for size in found) > _LARGEST:
        raise ValueError("an impossible shape")
    return found


def _read(record: str | tuple[int, Sequence[int]], shape: tuple[int, ...], total: int) -> Places:
    """Read the places of a weight, and refuse those outside the file's tensors."""
    count = math.prod(shape)
    if isinstance(record, str):
        return _decompressed(record, count, total)
    offset, strides = record
    strided = Strided(int(offset), tuple(int(stride) for stride in strides))
    lowest, highest = strided.bounds(shape)
    if count and (lowest < 0 or highest >= total):
        raise ValueError("a place outside the file's tensors")
    return strided


def _compressed(differences: npt.NDArray[np.int64]) -> str:
    return base64.b85encode(zlib.compress(differences.astype("<i8").tobytes(), 9)).decode("ascii")


def _decompressed(text: str, count: int, total: int) -> npt.NDArray[np.int64]:
    """Places of a weight of `count` elements. Text that holds more is refused before it fills the memory."""
    decompressor = zlib.decompressobj()
    data = decompressor.decompress(base64.b85decode(text), 8 * count + 1)
    if len(data) != 8 * count:
        raise ValueError(f"{len(data)} bytes for {count} elements")
    places = np.cumsum(np.frombuffer(data, "<i8"))
    if count and (places.min() < 0 or places.max() >= total):
        raise ValueError("a place outside the file's tensors")
    return places
