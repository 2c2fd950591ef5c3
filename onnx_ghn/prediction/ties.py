"""Parameters that are one to the framework and two to the file: copies that an exporter wrote or transposed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from onnx_ghn.graph import Parameter, Role

if TYPE_CHECKING:
    from onnx_ghn.arrays import Array
    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["Tie", "find_ties", "matrix_shape"]

_SAMPLE = 64  # elements that mostly tell two matrices apart


class Tie(NamedTuple):
    """A parameter that repeats another one."""

    original: int  # index of the other one
    transposed: bool


def find_ties(parameters: Sequence[Parameter], stored: Mapping[str, StoredTensor]) -> dict[int, Tie]:
    """Which matrices hold what another matrix of the file holds, as it is or transposed; by their indices.

    Two matrices that were drawn apart never agree in all elements: an output layer that reads the embedding through a
    Transpose, which the exporter computed once and for all, is the embedding. The original is the embedding, else the
    first.
    """
    from onnx_ghn.onnx_io.common_value import common_value

    by_size: dict[int, list[int]] = {}
    for index, parameter in enumerate(parameters):
        tensor = stored[parameter.name]
        is_weight = parameter.role in (Role.weight, Role.embedding) and parameter.size > 0
        is_matrix = is_weight and matrix_shape(parameter.shape) is not None
        if is_matrix and parameter.scale_name is None and not parameter.frozen and not tensor.is_absent:
            by_size.setdefault(parameter.size, []).append(index)
    ties: dict[int, Tie] = {}
    for group in by_size.values():
        originals: list[tuple[int, _Edges]] = []
        for index in sorted(group, key=lambda i: (parameters[i].role is not Role.embedding, i)) if group[1:] else ():
            tensor = stored[parameters[index].name]
            if common_value(tensor) is not None:
                continue
            edges = _Edges.of(tensor)
            for original, others in originals:
                tie = _tie(tensor, edges, stored[parameters[original].name], others)
                if tie is not None:
                    ties[index] = Tie(original, transposed=tie)
                    break
            else:
                originals.append((index, edges))
    return ties


class _Edges(NamedTuple):
    """The beginnings of the first row and of the first column of a matrix, which mostly tell two apart: no matrix of a
    gigabyte is read, or held, to be compared with another one.
    """

    row: Array
    column: Array

    @classmethod
    def of(cls, tensor: StoredTensor) -> _Edges:
        rows, columns = matrix_shape(tensor.shape) or (1, 1)
        return cls(tensor.sample(1, min(columns, _SAMPLE)), tensor.sample(columns, min(rows, _SAMPLE)))


def matrix_shape(shape: Sequence[int]) -> tuple[int, int] | None:
    """Rows and columns of a matrix, be it with axes of length 1 in front: (1, 1, 64, 32) is one of 64 × 32.

    A codebook is stored so where it is spread over a batch, and once more without them.
    """
    if len(shape) < 2 or any(size != 1 for size in shape[:-2]):
        return None
    return shape[-2], shape[-1]


def _tie(tensor: StoredTensor, edges: _Edges, other: StoredTensor, others: _Edges) -> bool | None:
    """Whether a matrix is another one transposed; False where it is that one as it is, None where it is neither."""
    shape, other_shape = matrix_shape(tensor.shape), matrix_shape(other.shape)
    if tensor.dtype != other.dtype or shape is None or other_shape is None:
        return None
    if shape == other_shape and np.array_equal(edges.row, others.row) and _equal(tensor, other, shape):
        return False
    transposed = shape == other_shape[::-1] and np.array_equal(edges.row, others.column)
    return True if transposed and _equal(tensor, other, other_shape, turned=True) else None


def _equal(tensor: StoredTensor, other: StoredTensor, shape: tuple[int, int], *, turned: bool = False) -> bool:
    """Whether a tensor holds what another one of that shape holds, or its transpose."""
    matrix = np.asarray(other.numpy()).reshape(shape)
    values = np.asarray(tensor.numpy())
    return (
        np.array_equal(values.reshape(shape[::-1]), matrix.T)
        if turned
        else np.array_equal(values.reshape(shape), matrix)
    )
