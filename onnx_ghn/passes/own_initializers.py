"""Initializers that a pass adds beside those of the file, and names for them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_ghn.onnx_io.common_value import common_value
from onnx_ghn.onnx_io.marks import FOLDED_FROM
from onnx_ghn.onnx_io.stored import StoredTensor
from onnx_ghn.onnx_io.tensors import AbsentTensor, FillTensor

__all__ = ["free_name", "own_initializer", "taken_names"]


def own_initializer(model: ir.Model, stored: StoredTensor, name: str) -> ir.Value:
    """A new initializer of the main graph that holds what a stored tensor holds."""
    tensor: ir.TensorProtocol
    if isinstance(stored.tensor, AbsentTensor):
        tensor = AbsentTensor(stored.tensor.source, name, stored.dtype, stored.shape)
    elif common_value(stored) is None:
        tensor = ir.Tensor(stored.numpy(), stored.dtype, shape=ir.Shape(stored.shape), name=name)
    else:
        # All elements are equal: nothing of the declared size is allocated before the size has been judged.
        first = np.asarray(stored.numpy()).reshape(-1)[:1].copy()
        tensor = FillTensor(first, name, stored.dtype, stored.shape)
    value = ir.Value(name=name, shape=ir.Shape(stored.shape), type=ir.TensorType(stored.dtype), const_value=tensor)
    if folded := stored.value.metadata_props.get(FOLDED_FROM):  # what it was made of, and its kind is not copied:
        value.metadata_props[FOLDED_FROM] = folded  # equal parameters and buffers are merged with each other
    model.graph.initializers.add(value)
    return value


def taken_names(model: ir.Model) -> set[str]:
    """The names of all values of a model."""
    names = set(model.graph.initializers) | {value.name or "" for value in model.graph.inputs}
    return names | {output.name or "" for node in model.graph.all_nodes() for output in node.outputs}


def free_name(taken: set[str], wanted: str) -> str:
    """The name, with a number where it is taken; it is taken from then on."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name
