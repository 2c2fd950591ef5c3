"""The graph as onnxruntime runs it, and the nodes of the file that each of its nodes stands for."""

from __future__ import annotations

import dataclasses
import math
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import helper, numpy_helper

from onnx_ghn.profiling.rewriting import graphs
from onnx_ghn.profiling.runtime_shapes import runtime_shapes
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.weights import BITS, n_weights

__all__ = ["FusedNode", "Stored", "fused_nodes", "infer_shapes"]

_LAYOUT = "_nchwc"  # what onnxruntime's blocked layout adds to the name of a value for that of its node
#: What a convolution in the blocked layout takes in after itself.
_AFTER = frozenset({"Add", "Sum", "Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "HardSwish", "Mul"})
#: What onnxruntime puts before a name where it computes in float32 what the file has in float16.
_WIDENED = "InsertedPrecisionFreeCast_"
#: And before the name of a constant of an operator that it computes by its definition: the 0 of Relu.
_INLINED = "_inlfunc_"
_HALVES = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
#: Where a graph lies: the first output of the node that has it as a body, and the attribute, from the outside in.
_Scope = tuple[tuple[str, str], ...]
_Producers = Mapping[str, onnx.NodeProto]


@dataclasses.dataclass(frozen=True)
class Stored:
    """An initializer, without its data."""

    name: str
    shape: tuple[int, ...]
    element_type: int  # TensorProto's, as onnxruntime reads it
    n_elements: int  # weights in it: `n_weights`
    file_type: int | None = None  # the file's, where onnxruntime widened it

    @property
    def n_bytes(self) -> int:
        """Number of bytes in the file; elements of four or two bits share one."""
        element_type = self.file_type or self.element_type
        bits = BITS.get(onnx.TensorProto.DataType.Name(element_type))
        bits = bits or 8 * helper.tensor_dtype_to_np_dtype(element_type).itemsize
        return -(-math.prod(self.shape) * bits // 8)

    @property
    def is_parameter(self) -> bool:
        """Whether it holds weights."""
        return self.n_elements > 0


@dataclasses.dataclass
class FusedNode:
    """A node that onnxruntime runs."""

    name: str
    op_type: str
    domain: str
    attributes: dict[str, Any]
    inputs: list[str]
    outputs: list[str]
    stored: list[Stored | None]  # for each input
    covers: list[onnx.NodeProto]
    weight: Stored | None = None  # of a convolution whose channels the blocked layout pads: as in the file
    scope: _Scope = ()


def fused_nodes(optimized: Path, original: onnx.ModelProto) -> list[FusedNode]:
    """Nodes of an optimised graph, main graph first, then those of bodies of Loop, If and Scan.

    Args:
        optimized: as onnxruntime wrote it.
        original: the model, without external data.
    """
    proto = onnx.load(optimized, load_external_data=False)
    found = [node for scope, graph in _scopes(proto.graph) for node in _nodes(graph, proto.graph, scope)]
    everywhere = {output: node for graph in graphs(original.graph) for node in graph.node for output in node.output}
    of_scope: dict[_Scope, _Producers] = {}
    for scope, graph in _scopes(original.graph):
        own = {output: node for node in graph.node for output in node.output}
        of_scope[scope] = ChainMap(own, dict(of_scope.get(scope[:-1], {})) if scope else {})
    producers = [of_scope.get(node.scope, everywhere) for node in found]
    values = [_original_value(node, known) for node, known in zip(found, producers, strict=True)]
    made: dict[_Scope, set[str]] = {}
    for node, value in zip(found, values, strict=True):
        made.setdefault(node.scope, set()).update((value, *node.outputs))
    claimed: set[int] = set()
    for node, value, known in zip(found, values, producers, strict=True):
        if value in known:
            ends = set().union(*(made.get(node.scope[:depth], ()) for depth in range(len(node.scope) + 1)))
            node.covers = _covered(value, ends - {value}, known, claimed)
    _hand_back(found)
    _restore_weights(found, original, everywhere)
    _restore_types(found, original, everywhere)
    return found


def infer_shapes(
    optimized: Path, original: onnx.ModelProto, point: Point, settings: Settings
) -> dict[str, tuple[tuple[int, ...], int]]:
    """Shape and element type of the values that can be inferred without running, by name in the optimised graph.

    Those of the main graph are onnxruntime's, which knows its own operators; those in bodies of Loop, If and Scan are
    onnx's, by the names of the file.

    Args:
        original: its inputs declare the shapes that are asked about.

    Raises:
        RuntimeFailure: onnxruntime refuses to tell.
    """
    proto = onnx.load(optimized, load_external_data=False)
    known = {tensor.name: (tuple(tensor.dims), tensor.data_type) for tensor in proto.graph.initializer}
    known |= _sized(original.graph.input)
    for name, (dims, kind) in runtime_shapes(optimized, point, settings).items():
        sizes = tuple(size for size in dims if size is not None)
        if len(sizes) == len(dims):
            known[name] = sizes, kind
    bodies = [graph for graph in graphs(proto.graph) if graph is not proto.graph]
    if bodies:
        for name, entry in _inferred(original).items():
            known.setdefault(name, entry)
        for graph in bodies:
            for tensor in graph.initializer:
                known.setdefault(tensor.name, (tuple(tensor.dims), tensor.data_type))
    return known


def _inferred(proto: onnx.ModelProto) -> dict[str, tuple[tuple[int, ...], int]]:
    """By onnx; nothing where it finds the file's shapes at odds."""
    try:
        done = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return {}
    found: dict[str, tuple[tuple[int, ...], int]] = {}
    for graph in graphs(done.graph):
        found |= _sized([*graph.input, *graph.value_info, *graph.output])
    return found


def _sized(values: Iterable[onnx.ValueInfoProto]) -> dict[str, tuple[tuple[int, ...], int]]:
    """Those whose sizes are all declared."""
    found = {}
    for value in values:
        kind = value.type.tensor_type
        if value.type.HasField("tensor_type") and kind.HasField("shape"):
            dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
            if min(dims, default=0) >= 0 and kind.elem_type:
                found[value.name] = (tuple(dims), kind.elem_type)
    return found


def _scopes(graph: onnx.GraphProto, scope: _Scope = ()) -> Iterator[tuple[_Scope, onnx.GraphProto]]:
    """A graph and the bodies in it, each after the graph that it lies in."""
    yield scope, graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _scopes(inner, (*scope, (node.output[0] if node.output else node.name, attribute.name)))


def _nodes(graph: onnx.GraphProto, main: onnx.GraphProto, scope: _Scope) -> Iterator[FusedNode]:
    # A body may give a name of the main graph's to a value of its own.
    own = set() if graph is main else {value.name for value in graph.input} | {o for n in graph.node for o in n.output}
    outer = [] if graph is main else [tensor for tensor in main.initializer if tensor.name not in own]
    tensors = {t.name: t for t in (*outer, *graph.initializer)}
    widened = {node.output[0]: node.input[0] for node in graph.node if _is_inserted(node) and node.input[0] in tensors}
    for node in graph.node:
        attributes = {
            entry.name: helper.get_attribute_value(entry)
            for entry in node.attribute
            if entry.type not in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS, onnx.AttributeProto.TENSOR)
        }
        inputs = list(node.input)
        stored: list[Stored | None] = []
        for index, name in enumerate(inputs):
            tensor = tensors.get(widened.get(name, name))
            if tensor is None or _is_inserted(node):  # the weight is that of the node that reads the wider copy
                stored.append(None)
                continue
            shape = tuple(tensor.dims)
            n_elements = n_weights(tensor.data_type, shape, [(node.op_type, attributes, index)])
            if tensor.name.startswith(_INLINED):
                n_elements = 0
            entry = Stored(tensor.name, shape, tensor.data_type, n_elements)
            if name in widened:
                entry = dataclasses.replace(entry, element_type=onnx.TensorProto.FLOAT, file_type=tensor.data_type)
            stored.append(entry)
        yield FusedNode(
            node.name, node.op_type, node.domain, attributes, inputs, list(node.output), stored, [], scope=scope
        )


def _is_inserted(node: onnx.NodeProto | FusedNode) -> bool:
    """A cast that onnxruntime put before or after a node that it computes in float32."""
    return node.op_type == "Cast" and node.name.startswith(_WIDENED)


def _original_value(node: FusedNode, producers: Mapping[str, object]) -> str:
    """The value of the file that a node of the optimised graph gives."""
    if _is_inserted(node):
        return ""
    if node.name.endswith(_LAYOUT):
        for value in (node.name.removesuffix(_LAYOUT), node.name.removesuffix(_LAYOUT).removeprefix(_WIDENED)):
            if value in producers:
                return value
    value = node.outputs[0] if node.outputs else ""
    return value if value in producers else value.removeprefix(_WIDENED)


def _covered(
    value: str, ends: set[str], producers: Mapping[str, onnx.NodeProto], claimed: set[int]
) -> list[onnx.NodeProto]:
    """Nodes of the file between what other nodes give (`ends`) and `value`, in order, without `claimed` ones."""
    found, waiting, seen = [], [value], {value}
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or id(node) in claimed:
            continue
        claimed.add(id(node))
        if node.op_type not in ("Constant", "ConstantOfShape"):
            found.append(node)
        for name in node.input:
            if name and name not in ends and name not in seen:
                seen.add(name)
                waiting.append(name)
    return found[::-1]


def _hand_back(nodes: Sequence[FusedNode]) -> None:
    """A sum or activation after a convolution is a part of it, but the convolution keeps the name of its first output:
    the walk from the next node finds them. They go back to the node whose output that one reads.
    """
    givers = {name: node for node in nodes for name in node.outputs}
    for node in nodes:
        kinds = [entry.op_type for entry in node.covers]
        main = node.op_type.removeprefix("Fused")
        giver = givers.get(node.inputs[0]) if node.inputs else None
        if giver is None or not giver.name.endswith(_LAYOUT):
            continue
        n_before = len(kinds) if node.op_type == "ReorderOutput" else kinds.index(main) if main in kinds else 0
        if n_before and set(kinds[:n_before]) <= _AFTER:
            giver.covers += node.covers[:n_before]
            node.covers = node.covers[n_before:]


def _restore_weights(
    nodes: Sequence[FusedNode], original: onnx.ModelProto, producers: Mapping[str, onnx.NodeProto]
) -> None:
    """The blocked layout fills channels up to a whole block: what is counted is the convolution as the file has it."""
    tensors = {tensor.name: tensor for graph in graphs(original.graph) for tensor in graph.initializer}
    for node in nodes:
        if node.domain != "com.microsoft.nchwc" or node.op_type != "Conv" or node.stored[1] is None:
            continue
        convolution = next((entry for entry in node.covers if entry.op_type in ("Conv", "FusedConv")), None)
        shape = None if convolution is None else _shape_of(convolution.input[1], tensors, producers)
        if shape is not None:
            node.weight = dataclasses.replace(node.stored[1], shape=shape, n_elements=math.prod(shape))


def _restore_types(nodes: Sequence[FusedNode], original: onnx.ModelProto, producers: _Producers) -> None:
    """A file of float16 has half the bytes, though onnxruntime computes most of it in float32."""
    types = {tensor.name: tensor.data_type for graph in graphs(original.graph) for tensor in graph.initializer}
    for name, producer in producers.items():
        for attribute in producer.attribute:
            if attribute.name == "value" and attribute.HasField("t"):
                types[name] = attribute.t.data_type
    for node in nodes:
        kinds = {types[name] for covered in node.covers for name in covered.input if name in types}
        kinds &= {*_HALVES, onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}
        if len(kinds) == 1 and kinds <= _HALVES:
            (kind,) = kinds
            node.stored = [_typed(entry, kind) for entry in node.stored]
            node.weight = _typed(node.weight, kind)


def _typed(entry: Stored | None, kind: int) -> Stored | None:
    if entry is None or entry.element_type != onnx.TensorProto.FLOAT:
        return entry
    return dataclasses.replace(entry, file_type=kind)


def _shape_of(
    name: str, tensors: Mapping[str, onnx.TensorProto], producers: Mapping[str, onnx.NodeProto]
) -> tuple[int, ...] | None:
    """The shape of an initializer, a Constant, or the ConstantOfShape that stands for it in a file without weights."""
    if name in tensors:
        return tuple(tensors[name].dims)
    node = producers.get(name)
    value = None if node is None else next((entry.t for entry in node.attribute if entry.name == "value"), None)
    if node is None or value is None:
        return None
    if node.op_type == "Constant":
        return tuple(value.dims)
    if node.op_type != "ConstantOfShape":
        return None
    source = producers.get(node.input[0])
    sizes = tensors.get(node.input[0])
    if source is not None and source.op_type == "Constant":
        sizes = next((entry.t for entry in source.attribute if entry.name == "value"), None)
    return None if sizes is None else tuple(int(dim) for dim in numpy_helper.to_array(sizes))
