"""Structural checks of a ModelProto, made before onnx_ir sees it, so that what it is given it can hold.

onnx_ir is lenient by design (it repairs or ignores); a reader of foreign files cannot be.
"""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, cast

from onnx_ghn.errors import ModelReadError
from onnx_ghn.onnx_io.map_types import take_out_map_types
from onnx_ghn.onnx_io.tensor_checks import TensorChecks

if TYPE_CHECKING:
    import onnx

__all__ = ["ModelChecks"]

_DAMAGED = "the file is damaged, truncated or not an ONNX model: export it again"
_MAX_NESTING = 32  # graphs in graphs; protobuf's parser stops at 33, models at 3 or 4

# AttributeProto.AttributeType -> the field that holds the value (onnx/onnx.proto).
_FIELD_OF_TYPE = {
    1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings", 9: "tensors", 10: "graphs",
    11: "sparse_tensor", 12: "sparse_tensors", 13: "tp", 14: "type_protos",
}  # fmt: skip
_TYPE_OF_FIELD = {field: kind for kind, field in _FIELD_OF_TYPE.items()}
_VALUE_FIELDS = frozenset(_TYPE_OF_FIELD)
_MUST_BE_PRESENT = frozenset({"t", "g", "sparse_tensor", "tp"})  # a scalar that is absent is 0
# Onnxruntime imports its own opsets where a model does not: Olive's files of fused transformers run without.
_RUNTIMES = {"com.microsoft": 1, "com.microsoft.nchwc": 1}

_Scope = tuple[set[str], set[str]]  # names available so far, and all that the graph declares


class ModelChecks:
    """Walks a ModelProto once; on the way mends attribute types, and hides sparse and external data and map types.

    Opsets of onnxruntime that the model uses and does not import are imported.
    """

    def __init__(self, label: str, tensors: TensorChecks) -> None:
        self._label = label
        self._tensors = tensors
        self._domains: set[str] | None = None
        self._assumed: Collection[str] = _RUNTIMES  # while the graph is walked: a function imports what it uses
        self.unsorted = False  # a node reads what a later one produces: order to be mended, or a cycle
        # For each graph in the order of sites.sites: the initializers that have a value_info.
        self.declared: list[frozenset[str]] = []
        # In the same order: the types that onnx_ir cannot hold, by the name of the value.
        self.map_types: list[dict[str, bytes]] = []

    def _error(self, text: str, remedy: str = "re-export the model") -> ModelReadError:
        return ModelReadError(f"{self._label}: {text}; {remedy}")

    def _name(self, name: object, what: str) -> str:
        # Protobuf hands a string that is not UTF-8 out as bytes.
        if not isinstance(name, str):
            raise self._error(f"{what} has a name that is not text", _DAMAGED)
        return name

    def model(self, proto: onnx.ModelProto, max_ir_version: int) -> None:
        """Check everything."""
        if not proto.HasField("graph"):
            raise self._error("holds no graph", _DAMAGED)
        version = proto.ir_version
        if not 1 <= version <= max_ir_version:
            raise self._error(
                f"has IR version {version}, and the installed onnx reads 1 to {max_ir_version}",
                "update onnx" if version > max_ir_version else _DAMAGED,
            )
        if version >= 3:
            self._domains = self._opsets(proto.opset_import, "the model")
        imported = set(self._domains or ())
        self._graph(proto.graph, [], 0, "the graph")
        for domain in sorted((self._domains or set()) - imported):
            proto.opset_import.add(domain=domain, version=_RUNTIMES[domain])
        self._assumed = ()
        calls: dict[tuple[str, str, str], set[tuple[str, str, str]]] = {}
        for function in proto.functions:
            identity = _operator(function.domain, function.name, function.overload)
            if identity in calls:
                raise self._error(f"defines the function {'::'.join(identity[:2])!r} twice")
            calls[identity] = self._function(function)
        self._no_recursion(calls)

    def _opsets(self, imports: Iterable[onnx.OperatorSetIdProto], what: str) -> set[str]:
        versions: dict[str, int] = {}
        for entry in imports:
            domain = _domain(self._name(entry.domain, f"an opset of {what}"))
            if entry.version < 1 or versions.get(domain, entry.version) != entry.version:
                raise self._error(f"imports opset {entry.version} of domain {domain!r}", _DAMAGED)
            versions[domain] = entry.version
        if not versions:
            raise self._error(f"{what} imports no opset", _DAMAGED)
        return set(versions)

    def _graph(self, graph: onnx.GraphProto, outer: list[_Scope], depth: int, what: str) -> None:
        if depth > _MAX_NESTING:
            raise self._error(f"nests graphs more than {_MAX_NESTING} deep", "simplify the model")
        self._name(graph.name, what)
        available: set[str] = set()
        for value in graph.input:
            name = self._name(value.name, f"an input of {what}")
            if not name or name in available:
                raise self._error(f"{what} has two inputs named {name!r}, or one without name")
            available.add(name)
        stored: set[str] = set()
        for tensor in graph.initializer:
            self._initializer(tensor, tensor.name, stored)
            self._tensors.dense(tensor, f"initializer {tensor.name!r}")
        for sparse in graph.sparse_initializer:
            name = sparse.values.name
            self._initializer(sparse, name, stored)
            self._tensors.sparse(sparse, f"sparse initializer {name!r}")
            self._tensors.hide_sparse(sparse, graph.initializer.add())
        graph.ClearField("sparse_initializer")
        self.declared.append(frozenset(self._name(v.name, "a value_info") for v in graph.value_info) & stored)
        self._take_out_map_types((*graph.input, *graph.output, *graph.value_info))
        available |= stored
        produced = self._nodes(graph.node, available, outer, depth, what)
        for value in graph.output:
            name = self._name(value.name, f"an output of {what}")
            if name not in produced:
                raise self._error(f"{what} has the output {name!r}, which nothing produces")

    def _take_out_map_types(self, values: Iterable[onnx.ValueInfoProto]) -> None:
        try:
            self.map_types.append(take_out_map_types(values))
        except ValueError as error:
            raise self._error(str(error), _DAMAGED) from error

    def _initializer(self, tensor: onnx.TensorProto | onnx.SparseTensorProto, name: object, stored: set[str]) -> None:
        text = self._name(name, "an initializer")
        if not text or text in stored:
            raise self._error(f"stores two initializers named {text!r}, or one without name")
        stored.add(text)

    def _nodes(
        self, nodes: Iterable[onnx.NodeProto], available: set[str], outer: list[_Scope], depth: int, what: str
    ) -> set[str]:
        """Check the nodes of a graph; all names that the graph declares."""
        everything = set(available)
        for node in nodes:
            for output in node.output:
                name = self._name(output, f"an output of node {node.name!r}")
                if name and name in everything:
                    raise self._error(f"{what} defines the value {name!r} twice")
                everything.add(name)
        everything.discard("")
        scopes = [*outer, (available, everything)]
        for node in nodes:
            self._node(node, scopes, depth)
            available.update(node.output)
        return everything

    def _node(self, node: onnx.NodeProto, scopes: list[_Scope], depth: int) -> None:
        op_type = self._name(node.op_type, "a node")
        label = f"node {self._name(node.name, 'a node')!r} ({op_type})"
        if not op_type:
            raise self._error(f"{label} has no operator", _DAMAGED)
        domain = _domain(self._name(node.domain, label))
        if self._domains is not None and domain in self._assumed:
            self._domains.add(domain)
        if self._domains is not None and domain not in self._domains:
            raise self._error(
                f"{label} is of the domain {domain!r}, whose opset is not imported", "add an opset_import"
            )
        for name in node.input:
            if name and not any(name in available for available, _ in scopes):
                if not any(name in everything for _, everything in scopes):
                    raise self._error(f"{label} reads {name!r}, which nothing produces")
                self.unsorted = True
        self._attributes(node.attribute, scopes, depth, label)

    def _attributes(
        self, attributes: Iterable[onnx.AttributeProto], scopes: list[_Scope], depth: int, label: str
    ) -> None:
        seen: set[str] = set()
        for attribute in attributes:
            name = self._name(attribute.name, f"an attribute of {label}")
            if name in seen or not name:
                raise self._error(f"{label} has two attributes named {name!r}, or one without")
            seen.add(name)
            self._attribute(attribute, scopes, depth, f"attribute {name!r} of {label}")

    def _attribute(self, attribute: onnx.AttributeProto, scopes: list[_Scope], depth: int, what: str) -> None:
        present = {field.name for field, _ in attribute.ListFields()} & _VALUE_FIELDS
        if attribute.ref_attr_name:
            self._name(attribute.ref_attr_name, what)
            return
        if attribute.type == 0 and len(present) == 1:
            # IR version 1 recorded no types, and some writers still leave them out.
            attribute.type = _attribute_type(next(iter(present)))
        field = _FIELD_OF_TYPE.get(attribute.type)
        if field is None:
            raise self._error(f"{what} has no known type", _DAMAGED)
        if present - {field} or (field in _MUST_BE_PRESENT and not present):
            raise self._error(f"{what} holds another kind of value than it declares")
        if field == "t":
            self._tensors.dense(attribute.t, what)
        elif field == "tensors":
            for tensor in attribute.tensors:
                self._tensors.dense(tensor, what)
        elif field == "g":
            self._graph(attribute.g, scopes, depth + 1, f"the graph in {what}")
        elif field == "graphs":
            for graph in attribute.graphs:
                self._graph(graph, scopes, depth + 1, f"a graph in {what}")
        elif field == "sparse_tensor":
            self._tensors.sparse(attribute.sparse_tensor, what)
            self._tensors.hide_sparse(attribute.sparse_tensor, attribute.t)
            attribute.ClearField("sparse_tensor")
            attribute.type = _attribute_type("t")
        elif field == "sparse_tensors":
            raise self._error(f"{what} is a list of sparse tensors, which is not supported", "make them dense")

    def _function(self, function: onnx.FunctionProto) -> set[tuple[str, str, str]]:
        """Check a function; the operators that it calls."""
        label = f"function {self._name(function.name, 'a function')!r}"
        self._name(function.domain, label)
        available: set[str] = set()
        for name in function.input:
            if not self._name(name, label) or name in available:
                raise self._error(f"{label} has two inputs named {name!r}, or one without name")
            available.add(name)
        self.declared.append(frozenset())
        self._take_out_map_types(function.value_info)
        self._domains = self._opsets(function.opset_import, label) if function.opset_import else None
        produced = self._nodes(function.node, available, [], 0, label)
        for name in function.output:
            if self._name(name, label) not in produced:
                raise self._error(f"{label} has the output {name!r}, which nothing produces")
        self._attributes(function.attribute_proto, [], 0, label)
        return set(_called(function.node))

    def _no_recursion(self, calls: dict[tuple[str, str, str], set[tuple[str, str, str]]]) -> None:
        """Functions that call one another in a circle could never be expanded."""
        try:
            graphlib.TopologicalSorter(calls).prepare()
        except graphlib.CycleError as error:
            name = "::".join(error.args[1][0][:2])
            raise self._error(f"the function {name!r} calls itself, directly or through others") from error


def _attribute_type(field: str) -> onnx.AttributeProto.AttributeType:
    return cast("onnx.AttributeProto.AttributeType", _TYPE_OF_FIELD[field])


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _operator(domain: str, name: str, overload: str) -> tuple[str, str, str]:
    return _domain(domain), name, overload


def _called(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[str, str, str]]:
    for node in nodes:
        yield _operator(node.domain, node.op_type, node.overload)
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _called(graph.node)
