"""Tensors that calls of a model's functions hold as attributes, made inputs of these functions.

A Constant in a function may take its tensor from an attribute of the call (`value=@weight`): then each call has a
weight of its own, which lies in the node that calls, where nothing looks for it. As an input of the function it is
stored by a Constant beside the call, as any weight may be.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from onnx_ghn.onnx_io.sites import sites
from onnx_ghn.passes.own_initializers import free_name
from onnx_ghn.passes.results import Rewrite

__all__ = ["BindCalledTensors"]

_TENSOR = ir.AttributeType.TENSOR


class BindCalledTensors(ir.passes.InPlacePass):
    """Turns such attributes into inputs; the changes are the names of what then stores their tensors.

    A default that no call replaces becomes the Constant's own. An attribute that anything but Constants reads, in the
    function or in a body within, stays one.
    """

    def call(self, model: ir.Model) -> Rewrite:
        """Rewrite the model in place."""
        if not model.functions:
            return Rewrite(model, modified=False)
        taken = {name for site in sites(model) for name in _names(site.graph)}
        new: list[str] = []
        pending = [*model.functions.values()]
        while pending:
            function = pending.pop()
            if not function.attributes:
                continue
            calls = [
                (site.function, node)
                for site in sites(model)
                for node in site.graph
                if node.op_identifier() == function.identifier()
            ]
            for name in _tensor_names(function, [node for _, node in calls]):
                readers = _constants(function, name)
                if not readers:
                    continue
                default = function.attributes.pop(name, None)
                if not any(name in node.attributes for _, node in calls):
                    assert default is not None
                    for reader in readers:
                        reader.attributes.add(ir.AttrTensor("value", default.as_tensor()))
                        new.append(reader.outputs[0].name or "")
                    continue
                _take_as_input(function, readers, free_name(taken, name))
                for caller, node in calls:
                    given = node.attributes.pop(name, default)
                    node.resize_inputs(len(function.inputs))
                    if given is None or (given.value is None and not given.is_ref()):
                        continue
                    source = _beside(node, given, free_name(taken, f"{node.name or function.name}/{name}"))
                    node.replace_input_with(len(function.inputs) - 1, source)
                    importer = model if caller is None else caller
                    importer.opset_imports.setdefault("", function.opset_imports.get("", 1))
                    if not given.is_ref():
                        new.append(source.name or "")
                    elif caller is not None and caller not in pending:
                        pending.append(caller)  # it hands on what is its own callers'
        return Rewrite(model, modified=bool(new), changes=tuple(new))


def _names(graph: ir.Graph) -> Iterator[str]:
    for value in (*graph.inputs, *graph.initializers.values()):
        yield value.name or ""
    for node in graph:
        yield from (output.name or "" for output in node.outputs)


def _tensor_names(function: ir.Function, calls: list[ir.Node]) -> list[str]:
    """The attributes of a function that are tensors in one of its calls, or by default."""
    given = [attribute for node in calls for attribute in node.attributes.values()]
    given += [attribute for attribute in function.attributes.values() if attribute.value is not None]
    return [name for name in dict.fromkeys(a.name for a in given if a.type == _TENSOR) if name in function.attributes]


def _constants(function: ir.Function, name: str) -> list[ir.Node]:
    """The Constants of a function whose tensor is that attribute; none where anything else reads it as well."""
    readers = [
        (node, attribute)
        for node in function.all_nodes()
        for attribute in node.attributes.values()
        if attribute.is_ref() and attribute.ref_attr_name == name
    ]
    if any(node.op_type != "Constant" or node.domain or attribute.name != "value" for node, attribute in readers):
        return []
    return [node for node, _ in readers]


def _take_as_input(function: ir.Function, readers: list[ir.Node], name: str) -> None:
    """Read a new last input in the places of Constants."""
    value = ir.Value(name=name)
    function.inputs.append(value)
    for reader in readers:
        graph = reader.graph
        assert graph is not None
        reader.outputs[0].replace_all_uses_with(value, replace_graph_outputs=True)
        graph.remove(reader, safe=True)


def _beside(node: ir.Node, given: ir.Attr, name: str) -> ir.Value:
    """What a new Constant before a node gives: the tensor of an attribute, be it that of the function around it."""
    if given.is_ref():
        attribute, value = ir.RefAttr("value", given.ref_attr_name or "", _TENSOR), ir.Value(name=name)
    else:
        tensor = given.as_tensor()
        attribute = ir.AttrTensor("value", tensor)
        value = ir.Value(name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype))
    constant = ir.Node("", "Constant", [], [attribute], outputs=[value], name=name)
    graph = node.graph
    assert graph is not None
    graph.insert_before(node, constant)
    return value
