"""Label arrays of values: which axes they cover, and how they follow a reshape.

A *field* of a value is an array of labels of the value's rank, with length 1 along every axis on which its labels do
not depend. A weight has one field for each of its axes; what a layer gives has one for its channels, which a reshape to
heads spreads over two axes.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from onnx_ghn.inheritance.labels import Ints

__all__ = ["LARGEST", "Field", "Shape", "along", "axes_of", "blocks", "compressed", "only_axis", "reshaped", "vector"]

_Number = TypeVar("_Number", bound=np.generic)

Field = Ints
Shape = tuple[int, ...]

LARGEST = 1 << 22  # labels of a field; what is larger is not followed


def axes_of(field: Field) -> frozenset[int]:
    """The axes that a field covers."""
    return frozenset(axis for axis, size in enumerate(field.shape) if size > 1)


def only_axis(field: Field, axis: int) -> bool:
    """Whether a field covers that axis (which may be counted from the end) and no other."""
    return axes_of(field) == {axis % field.ndim} if field.ndim else False


def along(values: npt.NDArray[_Number], rank: int, axis: int) -> npt.NDArray[_Number]:
    """An array of that rank with values along one axis; of labels, a field."""
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


def vector(field: Field) -> Ints:
    """The labels of a field in a row."""
    return field.reshape(-1)


def compressed(field: Field, axes: Collection[int] | None = None) -> Field:
    """A field without those of its axes, or of some of them, on which its labels do not depend."""
    for axis, size in enumerate(field.shape):
        if size > 1 and (axes is None or axis in axes):
            first = field.take([0], axis)
            if (field == first).all():
                field = first
    return field


def blocks(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]] | None:
    """The smallest runs of axes of equal numbers of elements, of a shape and of what it is reshaped to."""
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        left, right = [], []
        a = b = 1
        if i < len(before):
            left.append(i)
            a = before[i]
            i += 1
        if j < len(after):
            right.append(j)
            b = after[j]
            j += 1
        while a != b:
            if a < b:
                if i >= len(before):
                    return None
                left.append(i)
                a *= before[i]
                i += 1
            else:
                if j >= len(after):
                    return None
                right.append(j)
                b *= after[j]
                j += 1
        found.append((left, right))
    return found


def reshaped(field: Field, before: Shape, after: Shape) -> Field | None:
    """A field after its value is reshaped; None where it would be too large to follow."""
    runs = blocks(before, after)
    if runs is None:
        return None
    covered = axes_of(field)
    full: list[int] = []
    target: list[int] = []
    regrouped: set[int] = set()  # an axis that stays is one of channels still, be they all the same
    for left, right in runs:
        if len(left) > 1 or len(right) > 1:
            regrouped |= set(right)
        if covered & set(left):
            full += [before[axis] for axis in left]
            target += [after[axis] for axis in right]
        else:
            full += [1] * len(left)
            target += [1] * len(right)
    if math.prod(full) > LARGEST:
        return None
    return compressed(np.broadcast_to(field, full).reshape(target), regrouped)
