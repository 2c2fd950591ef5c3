"""Visiting every graph of a model, and every place in it that stores a tensor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

import onnx_ir as ir

from onnx_ghn.onnx_io.tensors import SparseTensor

__all__ = ["Site", "Slot", "sites", "slots"]

_AttributeType = ir.AttributeType
_TENSOR_TYPES = (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS, ir.AttributeType.SPARSE_TENSOR)


@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """A graph of the model: the main one, a body of If, Loop or Scan, or a function's."""

    graph: ir.Graph
    function: ir.Function | None
    path: str  # "" for the main graph and for functions, else "<node name>/<attribute>", joined when nested

    @property
    def is_main(self) -> bool:
        """Whether it is the main graph, be it of this model or of a copy."""
        return self.function is None and not self.path

    @property
    def function_name(self) -> str:
        """`<domain>::<function>`, with its overload if any; "" outside functions."""
        if self.function is None:
            return ""
        overload = f":{self.function.overload}" if self.function.overload else ""
        return f"{self.function.domain}::{self.function.name}{overload}"


def sites(model: ir.Model) -> Iterator[Site]:
    """Every graph, the outer before the inner, in the order of the nodes; functions last."""
    yield from _below(model.graph, None, "")
    for function in model.functions.values():
        yield from _below(function.graph, function, "")
        yield from _of_attributes(function.attributes.values(), function, "")


def _below(graph: ir.Graph, function: ir.Function | None, path: str) -> Iterator[Site]:
    yield Site(graph, function, path)
    for node in graph:
        # Most nodes have no body: `data` is the plain dictionary, which is read several times faster.
        for attribute in node.attributes.data.values():
            if attribute.type is _AttributeType.GRAPH or attribute.type is _AttributeType.GRAPHS:
                where = f"{path}/{node.name}" if path else node.name or ""
                yield from _of_attributes(node.attributes.values(), function, where)
                break


def _of_attributes(attributes: Iterable[ir.Attr], function: ir.Function | None, path: str) -> Iterator[Site]:
    for attribute in attributes:
        if attribute.is_ref():
            continue
        if attribute.type == _AttributeType.GRAPH:
            yield from _below(attribute.as_graph(), function, f"{path}/{attribute.name}")
        elif attribute.type == _AttributeType.GRAPHS:
            for i, graph in enumerate(attribute.as_graphs()):
                yield from _below(graph, function, f"{path}/{attribute.name}[{i}]")


@dataclasses.dataclass(eq=False, slots=True)
class Slot:
    """A place that stores a tensor: an initializer, or a tensor attribute (`index` in a list of tensors)."""

    value: ir.Value | None  # the initializer's value; None for an attribute
    _attributes: MutableMapping[str, ir.Attr] = dataclasses.field(default_factory=dict)
    _name: str = ""
    _index: int = -1

    @property
    def tensor(self) -> ir.TensorProtocol:
        """What is stored."""
        if self.value is not None:
            assert self.value.const_value is not None
            return self.value.const_value
        content: Any = self._attributes[self._name].value
        tensor: ir.TensorProtocol = content if self._index < 0 else content[self._index]
        return tensor

    @property
    def name(self) -> str:
        """The initializer's name, or the attribute's."""
        return self._name if self.value is None else self.value.name or ""

    def saved(self) -> Callable[[], None]:
        """A function that brings back what is stored now."""
        if self.value is not None:
            value, tensor = self.value, self.value.const_value
            return lambda: setattr(value, "const_value", tensor)
        attributes, attribute = self._attributes, self._attributes[self._name]
        return lambda: attributes.__setitem__(attribute.name, attribute)

    def put(self, tensor: ir.TensorProtocol) -> None:
        """Store another tensor."""
        if self.value is not None:
            self.value.const_value = tensor
            return
        old = self._attributes[self._name]
        content: Any = tensor
        kind = _AttributeType.TENSOR
        if self._index >= 0:
            content = list(old.value)
            content[self._index] = tensor
            kind = _AttributeType.TENSORS
        elif isinstance(tensor, SparseTensor):
            kind = _AttributeType.SPARSE_TENSOR
        self._attributes[self._name] = ir.Attr(self._name, kind, content, doc_string=old.doc_string)


def slots(model: ir.Model) -> Iterator[Slot]:
    """Every place that stores a tensor. The tensors may be exchanged on the way."""
    for site in sites(model):
        for value in site.graph.initializers.values():
            if value.const_value is not None:
                yield Slot(value)
        for node in site.graph:
            if any(attribute.type in _TENSOR_TYPES for attribute in node.attributes.data.values()):
                yield from _slots_of(node.attributes)
    for function in model.functions.values():
        yield from _slots_of(function.attributes)


def _slots_of(attributes: MutableMapping[str, ir.Attr]) -> Iterator[Slot]:
    for name, attribute in list(attributes.items()):
        if attribute.is_ref() or attribute.value is None:
            continue
        if attribute.type in (_AttributeType.TENSOR, _AttributeType.SPARSE_TENSOR):
            yield Slot(None, attributes, name)
        elif attribute.type == _AttributeType.TENSORS:
            for i in range(len(attribute.value)):
                yield Slot(None, attributes, name, i)
