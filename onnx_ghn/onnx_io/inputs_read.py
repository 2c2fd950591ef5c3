"""Which values of a model, and which of its inputs, its outputs depend on."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["data_inputs", "inputs_read", "values_read"]


def data_inputs(model: ir.Model) -> list[str]:
    """Names of the inputs that a caller has to give: those without a value of their own in the file."""
    return [value.name or "" for value in model.graph.inputs if value.const_value is None]


def inputs_read(model: ir.Model) -> list[str]:
    """Names of those `data_inputs` from which a path leads to an output, be it by their shapes alone."""
    read = values_read(model)
    return [value.name or "" for value in model.graph.inputs if value.const_value is None and value in read]


def values_read(model: ir.Model) -> set[ir.Value]:
    """Values from which a path leads to an output, be it through the bodies of If and Loop."""
    pending: list[ir.Value] = list(model.graph.outputs)
    seen = set(pending)
    while pending:
        node = pending.pop().producer()
        if node is None:
            continue
        for value in (*node.inputs, *_captured(node)):
            if value is not None and value not in seen:
                seen.add(value)
                pending.append(value)
    return seen


def _captured(node: ir.Node) -> list[ir.Value]:
    """What the graphs within a node, at any depth, read of the graphs around them, and of themselves."""
    values: list[ir.Value] = []
    graphs: list[ir.Graph] = _graphs(node)
    while graphs:
        graph = graphs.pop()
        values.extend(graph.outputs)
        for inner in graph:
            values += [value for value in inner.inputs if value is not None]
            graphs += _graphs(inner)
    return values


def _graphs(node: ir.Node) -> list[ir.Graph]:
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found += attribute.as_graphs()
    return found
