"""Changed copies of a model in memory: with other fixed shapes, with named nodes, with all outputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx

from onnx_ghn.errors import RuntimeFailure

__all__ = [
    "distinguish_nodes",
    "expose_outputs",
    "give_back_names",
    "graphs",
    "load_structure",
    "name_nodes",
    "serialized",
    "set_input_shapes",
]


def load_structure(path: str) -> onnx.ModelProto:
    """A model whose external data stay where they are."""
    return onnx.load(path, load_external_data=False)


def set_input_shapes(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> None:
    """Make inputs declare these shapes. Those of other values go, as they may depend on them."""
    for value in proto.graph.input:
        if value.name in shapes:
            for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
                dim.dim_value = size
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def name_nodes(proto: onnx.ModelProto) -> bool:
    """Name the nodes that have no name, so that the trace tells them apart. Returns whether there were any."""
    unnamed = [node for graph in graphs(proto.graph) for node in graph.node if not node.name]
    for number, node in enumerate(unnamed):
        node.name = f"{node.op_type}#{number}"
    return bool(unnamed)


def distinguish_nodes(proto: onnx.ModelProto) -> list[tuple[onnx.NodeProto, str]]:
    """Give nodes whose name another node has (in a body, in both branches of an If) one of their own.

    Returns:
        the renamed nodes, each with the name that it had: `give_back_names` undoes it.
    """
    nodes = [node for graph in graphs(proto.graph) for node in graph.node]
    taken = {node.name for node in nodes}
    seen: set[str] = set()
    renamed = []
    for number, node in enumerate(nodes):
        if node.name in seen:
            renamed.append((node, node.name))
            node.name = next(name for name in _variants(node.name, number) if name not in taken)
            taken.add(node.name)
        seen.add(node.name)
    return renamed


def give_back_names(renamed: Iterable[tuple[onnx.NodeProto, str]]) -> None:
    """Undo `distinguish_nodes`."""
    for node, name in renamed:
        node.name = name


def _variants(name: str, number: int) -> Iterator[str]:
    return (f"{name}#{number}{'_' * more}" for more in itertools.count())


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the bodies in it (of Loop, If, Scan), at any depth."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from graphs(inner)


def expose_outputs(proto: onnx.ModelProto) -> list[tuple[str, onnx.NodeProto]]:
    """Make every value of the main graph an output of the model. Returns the values and their nodes, in order."""
    given = {value.name for value in proto.graph.output}
    found = []
    for node in proto.graph.node:
        if node.op_type in ("Constant", "ConstantOfShape"):
            continue
        for name in node.output:
            if name:
                found.append((name, node))
                if name not in given:
                    proto.graph.output.append(onnx.ValueInfoProto(name=name))
    return found


def serialized(proto: onnx.ModelProto, path: str) -> bytes:
    """The bytes of a changed copy."""
    try:
        data: bytes = proto.SerializeToString()
    except ValueError as error:
        raise RuntimeFailure(
            f"{path}: is too large to be changed in memory ({error}); save the model with external data"
        ) from error
    return data
