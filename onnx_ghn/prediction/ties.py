"""Parameters that are one to the framework and two to the file: copies that an exporter wrote or transposed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from onnx_ghn.graph import Parameter, Role

if TYPE_CHECKING:
    from onnx_ghn.arrays import Array
    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["Tie", "find_ties"]

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
        is_weight = parameter.role in (Role.weight, Role.embedding) and len(parameter.shape) == 2 and parameter.size > 0
        if is_weight and parameter.scale_name is None and not parameter.frozen and not tensor.is_absent:
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
        rows, columns = tensor.shape
        return cls(tensor.sample(1, min(columns, _SAMPLE)), tensor.sample(columns, min(rows, _SAMPLE)))


def _tie(tensor: StoredTensor, edges: _Edges, other: StoredTensor, others: _Edges) -> bool | None:
    """Whether a matrix is another one transposed; False where it is that one as it is, None where it is neither."""
    if tensor.dtype != other.dtype:
        return None
    if (
        tensor.shape == other.shape
        and np.array_equal(edges.row, others.row)
        and np.array_equal(tensor.numpy(), other.numpy())
    ):
        return False
    transposed = tensor.shape == other.shape[::-1] and np.array_equal(edges.row, others.column)
    return True if transposed and np.array_equal(tensor.numpy(), other.numpy().T) else None
