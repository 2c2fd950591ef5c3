"""Giving the stored tensors of a model new content, each in the form that it is stored in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from onnx_ghn.arrays import Array
from onnx_ghn.errors import ModelWriteError
from onnx_ghn.onnx_io.stored import StoredTensor, stored_tensors
from onnx_ghn.onnx_io.tensors import LazyTensor

__all__ = ["drop_if_unused", "inject"]

_INITIALIZERS_STAND_ALONE = 4  # since this IR version an initializer need not be a graph input


def inject(
    model: ir.Model,
    tensors: Mapping[str, Callable[[], Array]],
    stored: Mapping[str, StoredTensor] | None = None,
) -> None:
    """Replace the content of stored tensors, named as `stored_tensors` names them; nothing else changes.

    The functions are called when the model is written or the tensor is read, each time anew, so that
    one tensor at a time is in memory. What they return must have the stored shape and type.
    A ConstantOfShape node becomes an initializer of the same name (a Constant node where the model
    allows no such initializer), so objects from an earlier `stored_tensors` no longer describe it.

    Args:
        stored: what `stored_tensors` says of the model as it is, where the caller knows it already.
    """
    if stored is None:
        stored = stored_tensors(model)
    for name in tensors:
        if name not in stored:
            raise ModelWriteError(f"tensor {name!r} is not in the model; use the names of stored_tensors")
        if stored[name].is_sparse or stored[name].is_string:
            raise ModelWriteError(f"tensor {name!r} is sparse or holds strings; leave it out")
    for name, function in tensors.items():
        _put(model, stored[name], function)


def _put(model: ir.Model, stored: StoredTensor, function: Callable[[], Array]) -> None:
    old = stored.tensor
    tensor = LazyTensor(
        function,
        stored.name,  # what messages say; writing gives it the value's name
        stored.dtype,
        stored.shape,
        doc_string=old.doc_string,
        metadata_props=dict(old.metadata_props),
    )
    node = stored.node
    if node is None:
        stored.value.const_value = tensor
    elif node.op_type == "Constant" or _needs_constant_node(model, stored):
        _make_constant(node, tensor)
    else:
        _make_initializer(node, tensor)


def _needs_constant_node(model: ir.Model, stored: StoredTensor) -> bool:
    """Functions have no initializers, before IR version 4 one would be an input, outputs are kept."""
    return (
        stored.site.function is not None
        or model.ir_version < _INITIALIZERS_STAND_ALONE
        or stored.value.is_graph_output()
    )


def _make_constant(node: ir.Node, tensor: LazyTensor) -> None:
    """Make `node`, a Constant or ConstantOfShape, a Constant that holds `tensor`."""
    shape = node.inputs[0] if node.inputs else None
    node.resize_inputs(0)
    if shape is not None:
        drop_if_unused(shape)
    node.op_type = "Constant"
    node.attributes.clear()
    node.attributes.add(ir.AttrTensor("value", tensor))


def _make_initializer(node: ir.Node, tensor: LazyTensor) -> None:
    graph, old, shape = node.graph, node.outputs[0], node.inputs[0]
    assert graph is not None
    new = ir.Value(
        name=old.name,
        shape=tensor.shape,
        type=ir.TensorType(tensor.dtype),
        doc_string=old.doc_string,
        const_value=tensor,
        metadata_props=dict(old.metadata_props) or None,
    )
    new.meta.update(old.meta)
    old.replace_all_uses_with(new)
    graph.remove(node, safe=True)
    graph.initializers.add(new)
    if shape is not None:
        drop_if_unused(shape)


def drop_if_unused(value: ir.Value) -> None:
    """Remove a stored value (an initializer that is no input, or a Constant) that nothing reads any more."""
    if value.uses() or value.is_graph_output() or value.is_graph_input():
        return
    producer, graph = value.producer(), value.graph
    if graph is None:
        return
    if producer is None:
        if value.is_initializer():
            del graph.initializers[value.name or ""]
    elif producer.op_type == "Constant" and not producer.domain:
        graph.remove(producer, safe=True)
