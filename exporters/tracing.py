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
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import CheckpointError, GraphError

__all__ = ["Codes", "Trace"]

Array = npt.NDArray[Any]

# Codes are float32 numbers from 2^-6 on: small and positive, so that what the exporter computes with them stays finite.
# Those whose last byte is 0 are left out, and with them every number that people write: 0.5, 1, 8, 1024.
_FIRST = int(np.float32(2.0**-6).view(np.int32))
_LAST = int(np.float32(2.0**120).view(np.int32))
_BYTE = 256
_VERSION = 1


class Codes:
    """Values for the weights of a model, each element's its own.

    Args:
        shapes: by name, in a fixed order.

    Raises:
        GraphError: more elements than there are values (about a billion).
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = dict(shapes)
        sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self.shapes.values()]
        self._names = list(self.shapes)
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        if _FIRST + self._starts[-1] * _BYTE // (_BYTE - 1) > _LAST:
            raise GraphError(f"{self._starts[-1]:,} weights are too many to tell apart; load them by name")

    def values(self, name: str) -> npt.NDArray[np.float32]:
        """The float32 array to give to a weight."""
        index = self._names.index(name)
        number = np.arange(*self._starts[index : index + 2])
        bits = _FIRST + number // (_BYTE - 1) * _BYTE + number % (_BYTE - 1) + 1
        return bits.astype(np.int32).view(np.float32).reshape(self.shapes[name])

    def trace(self, stored: Mapping[str, Array]) -> Trace:
        """Find every element among the tensors of the exported file.

        Args:
            stored: the file's tensors by name.
        """
        total = int(self._starts[-1])
        where = np.full(total, -1, dtype=np.int64)  # of an element: its place in all stored tensors, end to end
        names, shapes, offset = [], [], 0
        # The largest first: what a constant and a weight may share by chance belongs to the weight.
        for name, values in sorted(stored.items(), key=lambda item: -item[1].size):
            if values.dtype not in (np.float32, np.float64) or not values.size:
                continue
            flat = values.ravel()
            exact = flat.astype(np.float32)
            high, low = np.divmod(exact.view(np.int32).astype(np.int64) - _FIRST, _BYTE)
            codes = high * (_BYTE - 1) + low - 1
            found = np.flatnonzero((low > 0) & (codes >= 0) & (codes < total) & (exact == flat))
            found = found[where[codes[found]] < 0]
            if not len(found):
                continue
            where[codes[found]] = offset + found
            names.append(name)
            shapes.append(values.shape)
            offset += values.size
        places: dict[str, npt.NDArray[np.int64]] = {}
        missing: dict[str, int] = {}
        for name, start, stop in zip(self._names, self._starts[:-1], self._starts[1:], strict=True):
            part = where[start:stop]
            lost = int((part < 0).sum())
            if lost:
                missing[name] = lost
            else:
                places[name] = part
        return Trace(dict(self.shapes), dict(zip(names, shapes, strict=True)), places, missing)


@dataclasses.dataclass(frozen=True)
class Trace:
    """Where each weight of a model is in an ONNX file.

    Attributes:
        shapes: of the model's weights.
        stored: shapes of the file's tensors that hold them, in the order in which `places` counts.
        places: for each weight that was found whole, its elements' places in the stored tensors laid end to end.
        missing: for each other, how many of its elements are nowhere.
    """

    shapes: dict[str, tuple[int, ...]]
    stored: dict[str, tuple[int, ...]]
    places: dict[str, npt.NDArray[np.int64]]
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
        return {name: everything[places].reshape(self.shapes[name]) for name, places in self.places.items()}

    def to_json(self) -> str:
        """As text that fits into a model's metadata: kilobytes, since places follow each other regularly."""
        steps = {name: np.diff(places, prepend=0) for name, places in self.places.items()}
        record = {
            "version": _VERSION,
            "shapes": self.shapes,
            "stored": self.stored,
            "places": {name: _packed(step) for name, step in steps.items()},
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
            places = {
                name: _unpacked(packed, int(np.prod(shapes[name], dtype=np.int64)), total)
                for name, packed in record["places"].items()
            }
            missing = {str(name): int(count) for name, count in record["missing"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
            raise CheckpointError(f"the model's trace is damaged ({error}); export it again") from error
        return cls(shapes, stored, places, missing)


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
