"""Tensors that an exporter merged because they happened to be equal, told apart again.

torch's first exporter keeps one copy of equal constant tensors: a fresh network's batch norms all read one
vector of ones through Identity nodes that bear the parameters' own names, and running means share zeros with biases.
Those are different parameters: predicting one vector for all would tie layers that the framework keeps apart.
"""

from __future__ import annotations

import logging

import numpy as np
import onnx_ir as ir

from onnx_ghn.onnx_io.stored import StoredTensor, stored_tensors

__all__ = ["untie"]

logger = logging.getLogger(__name__)

_STATISTICS = (3, 4)  # inputs of BatchNormalization: running mean and variance


def untie(model: ir.Model) -> list[str]:
    """Give each merged tensor of the main graph its own initializer, in place.

    A tensor counts as merged where it is 1-D, all its elements are equal, and an Identity node that is
    not its only reader passes it on. The new initializer takes the name of the Identity's output, which is the
    parameter's; the node stays, and its output is called `<name>_identity`. Running statistics that share a tensor
    with anything else get a copy too. Matrices are left tied: those are tied by design (embedding and output layer).

    Returns:
        names of the new initializers.
    """
    if (
        model.ir_version < 4
    ):  # there an initializer has to be a graph input: the file's interface would change
        return []
    new: list[str] = []
    taken = _names(model)
    for stored in list(stored_tensors(model).values()):
        if (
            stored.kind not in ("initializer", "constant_of_shape", "constant")
            or stored.value.graph is not model.graph
        ):
            continue
        if len(stored.shape) != 1 or stored.is_string or stored.is_sparse or len(stored.value.uses()) < 2:
            continue
        if not _is_uniform(stored):
            continue
        for use in list(stored.value.uses()):
            if len(stored.value.uses()) < 2:
                break
            node = use.node
            if node.op_type == "Identity" and not node.domain and not node.outputs[0].is_graph_output():
                name = node.outputs[0].name or ""
                node.outputs[0].name = _free(taken, f"{name}_identity")
            elif node.op_type == "BatchNormalization" and use.idx in _STATISTICS:
                name = _free(
                    model, f"{node.outputs[0].name}_{'running_mean' if use.idx == 3 else 'running_var'}"
                )
            else:
                continue
            node.replace_input_with(use.idx, _initializer(model, stored, name))
            new.append(name)
    if new:
        logger.debug("%d tensors that the exporter had merged have initializers of their own", len(new))
    return new


def _is_uniform(stored: StoredTensor) -> bool:
    values = np.asarray(stored.numpy())
    return values.size > 1 and bool((values == values[0]).all())


def _initializer(model: ir.Model, stored: StoredTensor, name: str) -> ir.Value:
    value = ir.Value(
        name=name,
        shape=ir.Shape(stored.shape),
        type=ir.TensorType(stored.dtype),
        const_value=ir.Tensor(np.array(stored.numpy()), dtype=stored.dtype, name=name),
    )
    model.graph.initializers.add(value)
    return value


def _names(model: ir.Model) -> set[str]:
    names = set(model.graph.initializers) | {value.name or "" for value in model.graph.inputs}
    return names | {output.name or "" for node in model.graph.all_nodes() for output in node.outputs}


def _free(taken: set[str], wanted: str) -> str:
    """The name, with a number where it is taken; it is taken from then on."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name
