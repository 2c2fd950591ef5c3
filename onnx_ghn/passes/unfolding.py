"""Batch norms that an exporter folded into convolutions: where they were, and how to get them back.

A folded convolution computes what the two did, but trains otherwise, and a GHN that learned from nets with batch norms
predicts nothing like one without. Values tell nothing (the weights will be predicted): names and structure do.
"""

from __future__ import annotations

import logging
import re

import numpy as np
import onnx_ir as ir

from onnx_ghn.passes.results import Rewrite

__all__ = ["UnfoldBatchNorms", "find_folded"]

logger = logging.getLogger(__name__)

_EPSILON = 1e-5
_MIN_OPSET = 9  # from where on BatchNormalization means what it means today
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_NORMS = frozenset(
    {"BatchNormalization", "LayerNormalization", "GroupNormalization", "InstanceNormalization", "RMSNormalization",
     "LRN", "LpNormalization", "MeanVarianceNormalization", "SkipLayerNormalization"}
)  # fmt: skip
# What decomposed norms are made of.
_STATISTICS = frozenset({"ReduceMean", "Sqrt", "Reciprocal"})
_ACTIVATIONS = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh",
     "Softplus", "Mish", "Gelu", "Swish", "Erf", "Mul", "Add", "MaxPool", "AveragePool", "Concat", "Split", "Pad"}
)  # fmt: skip
# torch's first exporter names what it computed itself so; parameters keep their names.
_COMPUTED = re.compile(r"^onnx::\w+_\d+$")
_BATCH_NORM_NAME = re.compile(r"(^|[./_])(bn|batch_?norm(alization)?|norm)\d*([./_]|$)|fused|folded", re.IGNORECASE)
_MIN_CONVOLUTIONS = 2  # one alone, without batch norm, is nothing unusual


def find_folded(model: ir.Model) -> list[ir.Node]:
    """Convolutions of the main graph that hold a folded batch norm, as far as names and structure show it:

    - the weight has a name that torch's first exporter gives to tensors of its own making; or the bias has the name
      of a norm; or
    - no norm of any kind is in the model, and the convolution has no bias: people leave it out where a norm follows; or
    - no norm of any kind is in the model, and it has residual sums, which nobody trains without: then each convolution
      that an activation or a sum follows.
    """
    convolutions = [node for node in model.graph if node.op_type in _CONVOLUTIONS and _weight(node) is not None]
    if len(convolutions) < _MIN_CONVOLUTIONS:
        return []
    computed = [node for node in convolutions if _COMPUTED.match(_name(node, 1))]
    if computed:
        return computed
    named = [node for node in convolutions if _BATCH_NORM_NAME.search(_name(node, 2))]
    if named and not any(_BATCH_NORM_NAME.search(_name(node, 1)) for node in named):
        return named
    types = {node.op_type for node in model.graph}
    if types & _NORMS or len(types & _STATISTICS) == len(_STATISTICS) or {"ReduceMean", "Sqrt"} <= types:
        return []
    followed = [node for node in convolutions if _is_followed(node)]
    without = [node for node in followed if not _name(node, 2)]
    if 2 * len(without) >= len(convolutions):
        return without
    return followed if _has_residual_sums(model) else []


class UnfoldBatchNorms(ir.passes.InPlacePass):
    """Puts a batch norm behind each convolution that `find_folded` finds; the changes are the names of their nodes.

    The shift of the batch norm is the convolution's bias, which goes; the rest of it changes nothing.
    """

    def call(self, model: ir.Model) -> Rewrite:
        """Rewrite the model in place."""
        if model.opset_imports.get("", 0) < _MIN_OPSET:
            return Rewrite(model, modified=False)
        new = []
        for node in find_folded(model):
            weight = _weight(node)
            assert weight is not None
            channels = _channels(node, weight)
            output = node.outputs[0]
            if channels is None or output.is_graph_output():
                continue
            name = f"{node.name or output.name}_batch_norm"
            bias = node.inputs[2] if len(node.inputs) > 2 else None
            if bias is None:
                bias = _initializer(model, f"{name}.bias", np.zeros(channels, np.float32))
            elif bias.const_value is not None and len(bias.uses()) > 1:  # the batch norms were different ones
                bias = _initializer(model, f"{name}.bias", np.array(bias.const_value.numpy(), np.float32))
            scale = _initializer(model, f"{name}.weight", np.ones(channels, np.float32))
            mean = _initializer(model, f"{name}.running_mean", np.zeros(channels, np.float32))
            # With the operator's epsilon added it is one: the function stays the same.
            variance = _initializer(model, f"{name}.running_var", np.full(channels, 1 - _EPSILON, np.float32))
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
            new.append(name)
        if new:
            logger.info("%d folded batch norms put back", len(new))
        return Rewrite(model, bool(new), tuple(new))


def _name(node: ir.Node, index: int) -> str:
    value = node.inputs[index] if len(node.inputs) > index else None
    return (value.name or "") if value is not None else ""


def _weight(node: ir.Node) -> ir.Value | None:
    """The stored float weight; None where it is computed, quantised or has no shape."""
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is None or value.const_value is None or value.const_value.dtype != ir.DataType.FLOAT:
        return None
    return value


def _channels(node: ir.Node, weight: ir.Value) -> int | None:
    assert weight.const_value is not None
    shape = weight.const_value.shape.numpy()
    if len(shape) < 3:
        return None
    if node.op_type == "Conv":
        return int(shape[0])
    group = node.attributes.get("group")
    return int(shape[1]) * (1 if group is None else group.as_int())


def _initializer(model: ir.Model, name: str, values: np.ndarray) -> ir.Value:
    value = ir.Value(
        name=name,
        shape=ir.Shape(values.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.Tensor(values, name=name),
    )
    model.graph.initializers.add(value)
    return value


def _is_followed(node: ir.Node) -> bool:
    """Whether all that reads a convolution's result is an activation, a sum, a pool or another convolution."""
    readers = [use.node for use in node.outputs[0].uses()]
    return bool(readers) and all(
        reader.op_type in _ACTIVATIONS or reader.op_type in _CONVOLUTIONS for reader in readers
    )


def _has_residual_sums(model: ir.Model) -> bool:
    """An Add of two computed values, one of them a convolution's."""
    for node in model.graph:
        if node.op_type != "Add":
            continue
        producers = [value.producer() for value in node.inputs if value is not None and value.const_value is None]
        if len(producers) == 2 and any(p is not None and p.op_type in _CONVOLUTIONS for p in producers):
            return True
    return False
