"""Types of values that onnx_ir cannot hold, maps and opaque ones: taken out when a model is read, put back on writing.

scikit-learn's classifiers end in such a value, as skl2onnx writes them: a sequence of maps from class to probability.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    import onnx

__all__ = ["TypeMarkers", "adopt_map_types", "forget_map_type", "has_map_type", "take_out_map_types"]

_TYPE = "onnx_ghn.map_type"  # value.meta: the serialised type
_ANY = "onnx_ghn.any_map_type"  # graph.meta: whether it has such values


_KEYS = frozenset(  # what onnx.proto allows: integers and strings
    ir.DataType[kind] for kind in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "STRING")
)


def take_out_map_types(values: Iterable[onnx.ValueInfoProto]) -> dict[str, bytes]:
    """Clear the types that onnx_ir cannot hold; they come back serialised, by the name of the value.

    Raises:
        ValueError: of a value, what is wrong with its maps.
    """
    taken: dict[str, bytes] = {}
    for value in values:
        if value.HasField("type") and (inner := _map_within(value.type)) is not None:
            if inner.HasField("map_type") and inner.map_type.key_type not in _KEYS:
                raise ValueError(f"value {value.name!r} is of maps whose keys are neither integers nor strings")
            taken[value.name] = value.type.SerializeToString()
            value.ClearField("type")
    return taken


def _map_within(kind: onnx.TypeProto) -> onnx.TypeProto | None:
    """The map or opaque type itself, or that of the elements of sequences and optional values."""
    inner: onnx.TypeProto | None = kind
    while inner is not None:
        field = inner.WhichOneof("value")
        if field in ("map_type", "opaque_type"):
            return inner
        inner = getattr(inner, field).elem_type if field in ("sequence_type", "optional_type") else None
    return None


def adopt_map_types(graph: ir.Graph, taken: dict[str, bytes]) -> None:
    """Note at the values of a graph the types that were taken out."""
    if not taken:
        return
    graph.meta[_ANY] = True
    for value in _values(graph):
        if value.name in taken:
            value.meta[_TYPE] = taken[value.name]


def has_map_type(value: ir.Value) -> bool:
    """Whether the model that was read declares a value to be of maps, or opaque."""
    return value.type is None and _TYPE in value.meta


def forget_map_type(value: ir.Value) -> None:
    """Leave the value without type."""
    if _TYPE in value.meta:
        del value.meta[_TYPE]


class TypeMarkers:
    """Types that onnx_ir serialises in the place of those that were taken out. Random, so no file can contain one."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(16)
        self._types: dict[str, bytes] = {}

    def lend(self, graph: ir.Graph) -> list[Callable[[], None]]:
        """Give the values of a graph markers as types; functions that take them away again."""
        if not graph.meta.get(_ANY):
            return []
        return [self._lend(value) for value in _values(graph) if has_map_type(value)]

    def _lend(self, value: ir.Value) -> Callable[[], None]:
        marker = f"{self._prefix}{len(self._types)}"
        self._types[marker] = value.meta[_TYPE]
        value.type = ir.TensorType(ir.DataType.FLOAT, denotation=marker)

        def restore() -> None:
            value.type = None

        return restore

    def put_back(self, model: onnx.ModelProto) -> None:
        """Exchange the markers in a serialised model for the types that they stand for."""
        if not self._types:
            return
        self._put_back_in(model.graph)
        for function in model.functions:
            self._put_back_at(function.value_info)
            self._put_back_below(function.node)

    def _put_back_in(self, graph: onnx.GraphProto) -> None:
        for values in (graph.input, graph.output, graph.value_info):
            self._put_back_at(values)
        self._put_back_below(graph.node)

    def _put_back_at(self, values: Iterable[onnx.ValueInfoProto]) -> None:
        for value in values:
            kind = self._types.get(value.type.denotation)
            if kind is not None:
                value.type.ParseFromString(kind)

    def _put_back_below(self, nodes: Iterable[onnx.NodeProto]) -> None:
        for node in nodes:
            for attribute in node.attribute:
                for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                    self._put_back_in(graph)


def _values(graph: ir.Graph) -> Iterable[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs
