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
        is_weight = parameter.role in (Role.weight, Role.embedding) and len(parameter.shape) == 2
        if is_weight and parameter.scale_name is None and not parameter.frozen and not tensor.is_absent:
            by_size.setdefault(parameter.size, []).append(index)
    ties: dict[int, Tie] = {}
    for group in by_size.values():
        originals: list[tuple[int, Array]] = []
        for index in sorted(group, key=lambda i: (parameters[i].role is not Role.embedding, i)) if group[1:] else ():
            tensor = stored[parameters[index].name]
            if common_value(tensor) is not None:
                continue
            values = tensor.numpy()
            for original, others in originals:
                if _equal(values, others):
                    ties[index] = Tie(original, transposed=False)
                elif _equal(values, others.T):
                    ties[index] = Tie(original, transposed=True)
                else:
                    continue
                break
            else:
                originals.append((index, values))
    return ties


def _equal(values: Array, others: Array) -> bool:
    if values.shape != others.shape or values.dtype != others.dtype:
        return False
    return np.array_equal(values[0, :_SAMPLE], others[0, :_SAMPLE]) and np.array_equal(values, others)
