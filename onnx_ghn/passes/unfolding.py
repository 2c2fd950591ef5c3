"""Batch norms that an exporter folded into convolutions, put back.

A folded convolution computes what the two did, but trains otherwise, and a GHN that learned from nets with batch norms
predicts nothing like one without.
"""

from __future__ import annotations

import logging

import numpy as np
import onnx_ir as ir

from onnx_ghn.arrays import Array
from onnx_ghn.passes.folded import find_folded, stored_tensor
from onnx_ghn.passes.results import Rewrite

__all__ = ["UnfoldBatchNorms"]

logger = logging.getLogger(__name__)

_EPSILON = 1e-5
_MIN_OPSET = 9  # from where on BatchNormalization means what it means today
_MIN_IR_VERSION = 4  # from where on an initializer need not be a graph input


class UnfoldBatchNorms(ir.passes.InPlacePass):
    """Puts a batch norm behind each convolution that `find_folded` finds; the changes are the names of their nodes.

    The shift of the batch norm is the convolution's bias, which goes; the rest of it changes nothing.
    """

    def call(self, model: ir.Model) -> Rewrite:
        """Rewrite the model in place. A model of an opset before 9 or an IR version before 4 is left as it is."""
        if model.opset_imports.get("", 0) < _MIN_OPSET or model.ir_version < _MIN_IR_VERSION:
            return Rewrite(model, modified=False)
        new = [_put_back(model, node) for node in find_folded(model)]
        if new:
            logger.info("%d folded batch norms put back", len(new))
        return Rewrite(model, bool(new), tuple(new))


def _put_back(model: ir.Model, node: ir.Node) -> str:
    """Put a batch norm behind a convolution; the name of its node."""
    weight, output = stored_tensor(node.inputs[1]), node.outputs[0]
    assert weight is not None  # else it would not have been found
    channels, dtype = _channels(node, weight), weight.dtype
    name = f"{node.name or output.name}_batch_norm"
    if f"{name}.weight" in model.graph.initializers:  # names of nodes need not be unique
        name = f"{output.name}_batch_norm"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    stored = stored_tensor(bias)
    if bias is None:
        bias = _initializer(model, f"{name}.bias", np.zeros(channels), dtype)
    elif stored is not None and len(bias.uses()) > 1:  # the batch norms were different ones
        bias = _initializer(model, f"{name}.bias", np.array(stored.numpy()), dtype)
    scale = _initializer(model, f"{name}.weight", np.ones(channels), dtype)
    mean = _initializer(model, f"{name}.running_mean", np.zeros(channels), dtype)
    # With the operator's epsilon added it is one: the function stays the same.
    variance = _initializer(model, f"{name}.running_var", np.full(channels, 1 - _EPSILON), dtype)
    node.resize_inputs(2)
    norm = ir.Node(
        "",
        "BatchNormalization",
        [output, scale, bias, mean, variance],
        [ir.AttrFloat32("epsilon", _EPSILON)],
        name=name,
    )
    norm.outputs[0].name = f"{output.name}_batch_norm"
    norm.outputs[0].shape, norm.outputs[0].type = output.shape, output.type
    for use in list(output.uses()):
        if use.node is not norm:
            use.node.replace_input_with(use.idx, norm.outputs[0])
    model.graph.insert_after(node, norm)
    return name


def _channels(node: ir.Node, weight: ir.TensorProtocol) -> int:
    """Output channels."""
    shape = weight.shape.numpy()
    if node.op_type == "Conv":
        return int(shape[0])
    group = node.attributes.get("group")
    return int(shape[1]) * (1 if group is None else group.as_int())


def _initializer(model: ir.Model, name: str, values: Array, dtype: ir.DataType) -> ir.Value:
    array = values.astype(dtype.numpy())
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(dtype),
        const_value=ir.Tensor(array, dtype=dtype, name=name),
    )
    model.graph.initializers.add(value)
    return value
