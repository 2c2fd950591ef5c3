"""Whole numbers that a tool merged because they happened to be equal: biases of zeros, and zero points.

A quantised bias of a fresh network is zeros of int32, as its zero point is, and as another layer's bias is. tf2onnx
(1.17.0, from TensorFlow Lite) and whatever deduplicates initializers keep one tensor of them, which one
DequantizeLinear then reads as its values and as its zero point: a value written there is taken off again.
"""

from __future__ import annotations

import collections
import logging

import numpy as np
import onnx_ir as ir

from onnx_ghn.onnx_io.common_value import common_value
from onnx_ghn.onnx_io.stored import StoredTensor, stored_tensors
from onnx_ghn.passes.own_initializers import free_name, own_initializer, taken_names
from onnx_ghn.passes.results import Rewrite

__all__ = ["SeparateQuantised"]

logger = logging.getLogger(__name__)

_ZERO_POINT = 2  # that input of QuantizeLinear and of DequantizeLinear
_READERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_KINDS = ("initializer", "constant")


class SeparateQuantised(ir.passes.InPlacePass):
    """Gives zero points and quantised values of the main graph that are one tensor an initializer each.

    The changes are the names of the new ones, after what reads them. Values of several DequantizeLinear nodes are told
    apart where all of them are one number and the scales differ: a weight that is read twice has one scale.
    """

    def call(self, model: ir.Model) -> Rewrite:
        """Rewrite the model in place."""
        if model.ir_version < 4:  # there an initializer has to be a graph input: the file's interface would change
            return Rewrite(model, modified=False)
        if not any(node.op_type in _READERS for node in model.graph):
            return Rewrite(model, modified=False)
        shared = [stored for stored in stored_tensors(model).values() if _is_read_as_quantised(model, stored)]
        taken = taken_names(model) if shared else set()
        new: list[str] = []
        for stored in shared:
            for part, uses in list(_parts(stored).items())[1:]:
                what = "zero_point" if part == "zero point" else "quantised"
                name = free_name(taken, f"{uses[0][0].outputs[0].name}_{what}")
                value = own_initializer(model, stored, name)
                for node, index in uses:
                    node.replace_input_with(index, value)
                new.append(name)
        if new:
            logger.debug("%d quantised tensors that a tool had merged have initializers of their own", len(new))
        return Rewrite(model, bool(new), tuple(new))


def _is_read_as_quantised(model: ir.Model, stored: StoredTensor) -> bool:
    """Whether a tensor of whole numbers is read by several inputs, all of them values or zero points."""
    if stored.kind not in _KINDS or stored.site.graph is not model.graph or stored.is_sparse or stored.is_absent:
        return False
    uses = list(stored.value.uses())
    return (
        len(uses) > 1
        and stored.dtype.is_integer()
        and not stored.value.is_graph_output()
        and all(
            use.node.op_type in _READERS and use.node.graph is model.graph and use.idx in (0, _ZERO_POINT)
            for use in uses
        )
    )


def _parts(stored: StoredTensor) -> dict[str, list[tuple[ir.Node, int]]]:
    """The inputs that read a tensor, by what they take it for; values, which may be weights, before zero points."""
    found: dict[str, list[tuple[ir.Node, int]]] = collections.defaultdict(list)
    is_one_number = common_value(stored) is not None
    for node, index in sorted(stored.value.uses(), key=lambda use: use.idx):
        values = f"values by {_scale(node)!r}" if is_one_number else "values"
        part = "zero point" if index == _ZERO_POINT else values
        found[part].append((node, index))
    return found


def _scale(node: ir.Node) -> bytes | str | None:
    """What tells the scale of a node from others: its values where they are stored, else its name."""
    scale = node.inputs[1]
    tensor = None if scale is None else ir.convenience.get_const_tensor(scale)
    return None if scale is None else scale.name if tensor is None else np.asarray(tensor.numpy()).tobytes()
