"""Tensors that hold again what a parameter of the framework is stored as: copies that an exporter or a tool made."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from onnx_ghn.onnx_io.marks import notes
from onnx_ghn.onnx_io.stored import StoredTensor

__all__ = ["repeated_elements"]

_SAMPLE = 64  # elements that mostly tell two matrices apart


def repeated_elements(
    model: ir.Model, stored: Mapping[str, StoredTensor], learned: Collection[str], made: Collection[str]
) -> dict[str, int]:
    """How many elements of stored tensors are those of a parameter that another place of the file holds, too.

    An export notes it. What a tool made of an export, and torch's second exporter of its own, is told by value: all
    parameters are known by name there, and a matrix beside them that equals one, as it is or transposed, is that one.

    Args:
        stored: the tensors of the model.
        learned: names of those that the file calls parameters.
        made: names of those that are no parameters.

    Returns:
        a number for each stored name that has such elements.
    """
    found: dict[str, int] = {}
    gone: set[int] = set()  # sizes of parameters that an export noted, and that a tool may have given other names
    for note in notes(model):
        for prefix in note.prefixes(stored):
            found |= {prefix + name: number for name, number in note.repeated.items() if prefix + name in stored}
            gone |= {
                math.prod(note.reads[name][0])
                for name in note.weights or ()
                if name in note.reads and prefix + name not in stored
            }
    originals: dict[int, list[StoredTensor]] = {}
    for name in learned:
        if _is_matrix(stored[name]) and (size := math.prod(stored[name].shape)) not in gone:
            originals.setdefault(size, []).append(stored[name])
    for name, tensor in stored.items():
        if name in learned or name in made or name in found or not _is_matrix(tensor):
            continue
        size = math.prod(tensor.shape)
        if any(_repeats(tensor, original) for original in originals.get(size, ())):
            found[name] = size
    return found


def _is_matrix(tensor: StoredTensor) -> bool:
    is_stored = not tensor.is_sparse and not tensor.is_absent and tensor.kind != "constant_of_shape"
    return is_stored and len(tensor.shape) == 2 and min(tensor.shape) > 1 and tensor.dtype.is_floating_point()


def _repeats(tensor: StoredTensor, original: StoredTensor) -> bool:
    """Whether two matrices of several values are equal, as they are or transposed."""
    if tensor.dtype != original.dtype:
        return False
    values, others = np.asarray(tensor.numpy()), np.asarray(original.numpy())
    for candidate in (others, others.T):
        if candidate.shape == values.shape and np.array_equal(values[0, :_SAMPLE], candidate[0, :_SAMPLE]):
            return bool((values != values[0, 0]).any()) and np.array_equal(values, candidate)
    return False
