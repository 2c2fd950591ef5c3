"""What the tensors of an export hold: codes, values computed from them, and which of both two exports share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import GraphError
from onnx_ghn.exporters.weight_map import Array, Codes
from onnx_ghn.onnx_io.marks import Ranges

if TYPE_CHECKING:
    from onnx_ghn.onnx_io import StoredTensor

__all__ = [
    "COMPUTED_REMEDY",
    "computed_values",
    "float_values",
    "frozen_elements",
    "holds",
    "is_among",
    "is_float",
    "n_repeated",
    "repeated_elements",
    "same_in_both",
    "varied_weights",
]

COMPUTED_REMEDY = "switch the exporter's optimisation off, or remove the layer's parametrisation before the export"


def repeated_elements(codes: Codes, values: Array) -> npt.NDArray[np.int64] | None:
    """Which element of the weights each value of a tensor is, where it holds more values than there are elements."""
    elements = codes.elements(values)
    coded = elements[elements >= 0]
    return elements if len(coded) and len(coded) > int(coded.max() - coded.min()) + 1 else None


def varied_weights(originals: Mapping[str, Array]) -> dict[str, Array]:
    """Weights of an ordinary size, no two of which are equal; positive, as variances must be."""
    rng = np.random.default_rng(0)
    return {name: rng.uniform(0.5, 1.5, values.shape).astype(values.dtype) for name, values in originals.items()}


def holds(tensors: Mapping[str, StoredTensor], name: str, values: Array | None) -> bool:
    return values is not None and is_among(tensors, name, values)


def same_in_both(
    codes: Codes, stored: Mapping[str, Array], second_codes: Codes, second: Mapping[str, Array]
) -> list[str]:
    """Names of the tensors that hold the same elements of weights, or none, in exports with two different codes.

    The sum of a code and a small number may equal the code of another element. Only a second code shows that it was
    computed.
    """
    known: set[tuple[tuple[int, ...], bytes]] | None = None
    same = []
    for name, values in stored.items():
        elements = codes.elements(values)
        if name in second and np.array_equal(elements, second_codes.elements(second[name])):
            same.append(name)
        elif name not in second or second[name].shape != values.shape:  # the second export has it under another name
            if known is None:
                known = {(other.shape, second_codes.elements(other).tobytes()) for other in second.values()}
            if (values.shape, elements.tobytes()) in known:
                same.append(name)
    return same


def is_float(tensor: StoredTensor) -> bool:
    return not tensor.is_sparse and not tensor.is_string and tensor.dtype.is_floating_point() and 0 not in tensor.shape


def float_values(stored: Mapping[str, StoredTensor]) -> dict[str, Array]:
    return {name: tensor.numpy() for name, tensor in stored.items() if is_float(tensor)}


def is_among(plain: Mapping[str, StoredTensor], name: str, values: Array) -> bool:
    """Whether an export with the own weights holds these values, under their name or another."""
    if name in plain and plain[name].shape == values.shape:
        return _equal(plain[name], values)
    return any(_equal(tensor, values) for tensor in plain.values())


def computed_values(plain: Mapping[str, StoredTensor], undecoded: Mapping[str, Array]) -> dict[str, Array]:
    """Values of the tensors that depend on the weights without holding them.

    Args:
        plain: an export with the own weights.
    """
    computed = {}
    for name, values in undecoded.items():
        if name in plain and plain[name].shape == values.shape:
            own = np.array(plain[name].numpy())
            if not np.array_equal(own, values, equal_nan=True):
                computed[name] = own
        elif values.size > 1 and not any(_equal(tensor, values) for tensor in plain.values()):
            raise GraphError(
                f"tensor {name!r} {list(values.shape)} holds what the exporter computed from weights, under a name "
                f"that changes from export to export; {COMPUTED_REMEDY}"
            )
    return computed


def _equal(tensor: StoredTensor, values: Array) -> bool:
    return (
        is_float(tensor)
        and tensor.shape == values.shape
        and bool(np.array_equal(tensor.numpy(), values, equal_nan=True))
    )


def _trainable_elements(codes: Codes, trainable: Set[str]) -> npt.NDArray[np.bool_]:
    """A flag for each element of the weights, and a last one for element -1, which stands for none."""
    sizes = {name: int(np.prod(shape, dtype=np.int64)) for name, shape in codes.shapes.items()}
    flags: npt.NDArray[np.bool_] = np.zeros(sum(sizes.values()) + 1, dtype=bool)
    start = 0
    for name, size in sizes.items():
        flags[start : start + size] = name in trainable
        start += size
    return flags


def n_repeated(codes: Codes, stored: Mapping[str, Array], first: Iterable[str], trainable: Set[str]) -> dict[str, int]:
    """How many values of each stored tensor are trainable elements that another place of the file holds, too.

    Args:
        stored: the tensors that hold weights.
        first: the names of those in which a weight is looked for; the others repeat them.
    """
    if sum(values.size for values in stored.values()) <= sum(math.prod(shape) for shape in codes.shapes.values()):
        return {}  # no room for repetitions
    is_trainable = _trainable_elements(codes, trainable)
    is_seen: npt.NDArray[np.bool_] = np.zeros(len(is_trainable), dtype=bool)
    repeated = {}
    for name in dict.fromkeys((*(name for name in first if name in stored), *stored)):
        elements = codes.elements(stored[name])
        elements = elements[is_trainable[elements]]
        if not len(elements):
            continue
        among = is_seen[int(elements.min()) : int(elements.max()) + 1]  # a view
        before = int(among.sum())
        is_seen[elements] = True
        if repeats := len(elements) - (int(among.sum()) - before):
            repeated[name] = repeats
    return repeated


def frozen_elements(codes: Codes, stored: Mapping[str, Array], trainable: Set[str]) -> dict[str, Ranges]:
    """The parts of stored tensors that hold no trainable weight."""
    is_trainable = _trainable_elements(codes, trainable)
    frozen: dict[str, Ranges] = {}
    for name, values in stored.items():
        trains = is_trainable[codes.elements(values)]
        if not trains.any():
            frozen[name] = None
        elif not trains.all():
            ends = np.flatnonzero(np.diff(np.concatenate([[False], ~trains, [False]]).astype(np.int8)))
            frozen[name] = tuple((int(first), int(stop)) for first, stop in ends.reshape(-1, 2))
    return frozen
