"""The values of one tensor, made from those of the donor's tensor that stands in its place."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from onnx_ghn.arrays import Array
from onnx_ghn.inheritance.fields import along
from onnx_ghn.inheritance.labels import Ints

__all__ = [
    "Recipe",
    "Rest",
    "Step",
    "columns",
    "columns_in_groups",
    "image_channels",
    "kernel",
    "places",
    "rows",
    "scaled",
]

Step = Callable[[Array], Array]

_UNEVEN = 0.25  # by how much the shares of copies differ, so that they learn different things


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """How to make a tensor of a donor's.

    Attributes:
        order: of the donor's axes, those of the recipient first; the others have length 1, or are cut to their centre.
        shape: of the recipient's tensor as it is stored.
        steps: on an array that has the axes of the recipient, each of which gets its final length.
    """

    read: Callable[[], Array]
    order: tuple[int, ...]  # -1 for an axis that the donor has not
    shape: tuple[int, ...]
    steps: tuple[Step, ...]

    def values(self) -> Array:
        """The array, of the stored shape; what is copied whole is the donor's own, which is not to be written to."""
        array = np.asarray(self.read())
        left = [axis for axis in range(array.ndim) if axis not in self.order]
        for axis in sorted(left, reverse=True):
            array = array.take(array.shape[axis] // 2, axis)
        kept = sorted(axis for axis in self.order if axis >= 0)
        array = array.transpose([kept.index(axis) for axis in self.order if axis >= 0])
        sizes = iter(array.shape)
        array = array.reshape([1 if axis < 0 else next(sizes) for axis in self.order])
        for step in self.steps:
            array = step(array)
        made: Array = np.ascontiguousarray(array).reshape(self.shape)
        return made


@dataclasses.dataclass(frozen=True, eq=False)
class Rest:
    """Rows of a tensor that no donor gives, and that get what they would get without one.

    Attributes:
        axis: along which they lie.
        rows: which they are, (size of the axis,).
    """

    axis: int
    rows: npt.NDArray[np.bool_]

    def filled(self, array: Array, other: Array) -> Array:
        """An array with these rows of another one."""
        return np.where(along(self.rows, array.ndim, self.axis), other, array)


def rows(axis: int, index: Ints, factor: Array | None = None, empty: float = 0.0) -> Step:
    """What is written along an axis: copies of the donor's rows.

    Args:
        index: the donor's positions, -1 for rows that begin empty.
        factor: of each row.
        empty: what those begin with.
    """

    def step(array: Array) -> Array:
        if factor is None and _is_all(index, array.shape[axis]):
            return array
        taken = array.take(np.maximum(index, 0), axis)
        if (index < 0).any():
            taken = np.where(along(index >= 0, taken.ndim, axis), taken, np.asarray(empty, taken.dtype))
        if factor is not None:
            taken = taken * along(factor.astype(taken.dtype), taken.ndim, axis)
        made: Array = taken
        return made

    return step


def columns(axis: int, index: Ints, name: str, *, divides: bool = True, are_copies: bool = True) -> Step:
    """What is summed over along an axis: copies share what their original gave.

    What reads a channel that is zero is free, and gets what reads some other channel.

    Args:
        name: of the tensor, by which the shares are drawn.
        are_copies: whether all that copy one column read the same: then shares are uneven, so that they learn
            different things.
    """

    def step(array: Array) -> Array:
        size = array.shape[axis]
        if _is_all(index, size):
            return array
        filled = np.where(index >= 0, index, np.arange(len(index)) % size)
        taken = array.take(filled, axis)
        if divides:
            taken = taken * along(_shares(index, name if are_copies else None).astype(taken.dtype), taken.ndim, axis)
        made: Array = taken
        return made

    return step


def _is_all(index: Ints, size: int) -> bool:
    """Whether positions are all of an axis in their order, so that nothing has to be copied."""
    return len(index) == size and bool((index == np.arange(size)).all())


def _shares(index: Ints, name: str | None) -> Array:
    """How much of its original each copy gives: parts whose sum is one, (n,); uneven ones, unless there is no name."""
    made = np.ones(len(index))
    real = index >= 0
    counts = np.bincount(index[real]) if real.any() else np.zeros(1, np.int64)
    if counts.max(initial=0) > 1:
        if name is not None:
            draw = np.random.default_rng(zlib.crc32(name.encode()))
            made[real] = 1 + _UNEVEN * draw.uniform(-1, 1, int(real.sum()))
        made[real] /= np.bincount(index[real], weights=made[real])[index[real]]
    return made


def scaled(factor: float) -> Step:
    """All of it, multiplied by a number."""

    def step(array: Array) -> Array:
        made: Array = array * np.asarray(factor, array.dtype)
        return made

    return step


def columns_in_groups(outputs: int, inputs: int, table: Ints, counts: Ints) -> Step:
    """The inputs of a grouped convolution: each output reads those of its own group.

    Args:
        outputs, inputs: axes.
        table: the donor's column for each output and each of its inputs, (out, in of a group).
        counts: how many of them copy the same column.
    """

    def step(array: Array) -> Array:
        moved = np.moveaxis(array, (outputs, inputs), (0, 1))  # (out, in of the donor's group, ...)
        if len(table) == len(moved) and (counts == 1).all() and all(_is_all(row, moved.shape[1]) for row in table):
            return array
        taken = moved[np.arange(len(table))[:, None], table]
        taken = taken / counts.reshape(*counts.shape, *[1] * (taken.ndim - 2)).astype(taken.dtype)
        made: Array = np.moveaxis(taken, (0, 1), (outputs, inputs))
        return made

    return step


def image_channels(axis: int, size: int, have: int) -> Step:
    """The channels of an image: the same, their sum for a grey one, zeros for further ones."""

    def step(array: Array) -> Array:
        if size == 1:
            grey: Array = array.sum(axis=axis, keepdims=True)
            return grey
        return rows(axis, np.where(np.arange(size) < have, np.arange(size), -1))(array)

    return step


def kernel(axis: int, size: int) -> Step:
    """A kernel of another length: its centre, or zeros around it."""

    def step(array: Array) -> Array:
        have = array.shape[axis]
        if have > size:
            first = (have - size) // 2
            made: Array = array.take(np.arange(first, first + size), axis)
            return made
        ahead = (size - have) // 2
        pads = [(0, 0)] * array.ndim
        pads[axis] = (ahead, size - have - ahead)
        return np.pad(array, pads)

    return step


def places(axis: int, size: int) -> Step:
    """A table of positions of another length: interpolated, on a square grid where both are one.

    A first position that makes a grid of the others (a class token) is copied.
    """

    def step(array: Array) -> Array:
        moved = np.moveaxis(array, axis, 0)
        have = len(moved)
        for tokens in (0, 1, 2):
            old, new = math.isqrt(max(0, have - tokens)), math.isqrt(max(0, size - tokens))
            if old > 1 and new > 1 and old * old == have - tokens and new * new == size - tokens:
                grid = moved[tokens:].reshape(old, old, *moved.shape[1:])
                grid = _linear(_linear(grid, 0, new), 1, new)
                made: Array = np.concatenate([moved[:tokens], grid.reshape(-1, *moved.shape[1:])])
                return np.moveaxis(made, 0, axis)
        return np.moveaxis(_linear(moved, 0, size), 0, axis)

    return step


def _linear(array: Array, axis: int, size: int) -> Array:
    """Linear interpolation along an axis, pixels as areas."""
    have = array.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * have / size - 0.5, 0, have - 1)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, have - 1)
    part = along((at - low).astype(array.dtype), array.ndim, axis)
    made: Array = array.take(low, axis) * (1 - part) + array.take(high, axis) * part
    return made
