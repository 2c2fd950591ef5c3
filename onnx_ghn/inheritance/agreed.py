"""What one of two models knows to be constants, and the other cannot tell from weights: it is the same in both.

An exporter marks the constants of a file, and a tool that rewrites it takes the marks away. Read as learned in one file
and as numbers of the model in the other, a scale of scores or a table of rotations would set the two apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from onnx_ghn.graph import ComputationGraph, Parameter
from onnx_ghn.onnx_io import StoredTensor

__all__ = ["Model", "other_numbers", "with_agreed"]

_LARGEST = 1 << 24  # elements; constants of such a size are not looked at

Model = tuple[ComputationGraph, Mapping[str, StoredTensor]]  # a graph, and the tensors of its file
_Print = tuple[tuple[int, ...], bytes]


def with_agreed(model: Model, others: Sequence[Model]) -> ComputationGraph:
    """The graph of a model, where what may be learned is a constant if others have a constant of the same values."""
    graph, stored = model
    doubtful = {row.name: made for row in graph.uncertain if (made := _print(row, stored)) is not None}
    if not doubtful:
        return graph
    shapes = {shape for shape, _ in doubtful.values()}
    known = {
        _print(row, tensors)
        for other, tensors in others
        for row in other.constants
        if row.name in tensors and _shape(tensors[row.name]) in shapes
    }
    agreed = {name for name, made in doubtful.items() if made in known}
    return dataclasses.replace(
        graph,
        uncertain=tuple(row for row in graph.uncertain if row.name not in agreed),
        constants=(*graph.constants, *(row for row in graph.uncertain if row.name in agreed)),
    )


def other_numbers(model: Model, others: Sequence[Model]) -> list[str]:
    """Names of the single numbers, learned or constants, that differ from all that operators of their type read in
    other models; where these read none, as a norm that is one operator, nothing differs.

    Those that multiply are left out: what they scale is followed, and queries or embeddings make up for it.
    """
    known: dict[str, set[_Print | None]] = {}
    for graph, stored in others:
        for row in (*graph.uncertain, *graph.constants):
            if row.size == 1:
                known.setdefault(row.op, set()).add(_print(row, stored))
    graph, stored = model
    doubtful = [row for row in graph.uncertain if row.size == 1 and row.op in known.keys() - {"Mul", "Div"}]
    return [row.name for row in doubtful if _print(row, stored) not in known[row.op]]


def _shape(tensor: StoredTensor) -> tuple[int, ...]:
    """Sizes without the axes of length 1, which tools add and take away."""
    return tuple(size for size in tensor.shape if size != 1)


def _print(row: Parameter, stored: Mapping[str, StoredTensor]) -> _Print | None:
    """What tells the values of a tensor; None for one that is not to be compared."""
    tensor = stored.get(row.name)
    if tensor is None or row.size > _LARGEST or tensor.is_absent or tensor.is_sparse or tensor.is_string:
        return None
    if not tensor.dtype.is_floating_point():
        return None
    return _shape(tensor), np.ascontiguousarray(tensor.numpy().astype(np.float32)).tobytes()
