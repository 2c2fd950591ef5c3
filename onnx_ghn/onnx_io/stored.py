"""The tensors that a model stores, in whatever form its exporter chose, under unique names."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from onnx_ghn.arrays import Array
from onnx_ghn.errors import ModelReadError
from onnx_ghn.onnx_io.attributes import attribute_tensor
from onnx_ghn.onnx_io.sites import Site, sites
from onnx_ghn.onnx_io.tensors import AbsentTensor, FillTensor, RawTensor, SparseTensor, strided

__all__ = ["Kind", "StoredTensor", "stored_tensors"]

_MAX_ELEMENTS = 1 << 58  # what numpy can at least describe
#: What attributes of a Constant node hold, beside the tensor `value`.
_CONSTANTS = {
    "sparse_value": ir.AttributeType.SPARSE_TENSOR,
    "value_float": ir.AttributeType.FLOAT,
    "value_floats": ir.AttributeType.FLOATS,
    "value_int": ir.AttributeType.INT,
    "value_ints": ir.AttributeType.INTS,
    "value_string": ir.AttributeType.STRING,
    "value_strings": ir.AttributeType.STRINGS,
}

Kind = Literal["initializer", "input_default", "constant", "constant_of_shape", "function", "subgraph"]


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTensor:
    """A constant tensor of a model: where it is and what it is, without its data."""

    name: str  # unique in the model
    kind: Kind  # where it is stored; what stores it is `node`
    shape: tuple[int, ...]
    dtype: ir.DataType
    tensor: ir.TensorProtocol = dataclasses.field(repr=False)
    value: ir.Value = dataclasses.field(repr=False)  # what the model's nodes read
    node: ir.Node | None = dataclasses.field(repr=False)  # the Constant or ConstantOfShape; None: an initializer
    site: Site = dataclasses.field(repr=False)  # the graph that it belongs to

    @property
    def nbytes(self) -> int:
        """Number of bytes; 0 for strings."""
        return 0 if self.is_string else self.tensor.nbytes

    @property
    def is_sparse(self) -> bool:
        """A sparse tensor: carried along, but it has no dense content."""
        return isinstance(self.tensor, SparseTensor)

    @property
    def is_string(self) -> bool:
        """A tensor of strings."""
        return self.dtype == ir.DataType.STRING

    @property
    def is_absent(self) -> bool:
        """A tensor whose data file is not there: `numpy` raises."""
        return isinstance(self.tensor, AbsentTensor)

    def numpy(self) -> Array:
        """The content, read when asked for; mostly read-only."""
        return self.tensor.numpy()

    def sample(self, step: int, count: int, width: int = 1) -> Array:
        """Every `step`-th element in the order of the file, at most `count`, each with its next neighbours, `width` in
        all; of a data file no more is read.
        """
        if isinstance(self.tensor, RawTensor):
            return self.tensor.sample(step, count, width)
        return strided(self.numpy().reshape(-1), step, count, width)


def stored_tensors(model: ir.Model) -> dict[str, StoredTensor]:
    """Every constant tensor of the model by its name, in the order of the file.

    The name is that of the value, qualified in functions ("<domain>::<function>/<value>") and, where
    it is not unique, in subgraphs ("<node>/<attribute>/<value>").
    """
    entries = [(site, value, node, tensor) for site in sites(model) for value, node, tensor in _in_graph(site.graph)]
    times = collections.Counter((site.function_name, value.name) for site, value, _, _ in entries)
    stored: dict[str, StoredTensor] = {}
    for site, value, node, tensor in entries:
        parts = [
            site.function_name,
            site.path if times[site.function_name, value.name] > 1 else "",
            value.name,
        ]
        name = "/".join(part for part in parts if part)
        name = _unique(name, stored)
        stored[name] = StoredTensor(
            name=name,
            kind=_kind(site, value, node),
            shape=tensor.dims if isinstance(tensor, RawTensor) else tuple(int(d) for d in tensor.shape.numpy()),
            dtype=tensor.dtype,
            tensor=tensor,
            value=value,
            node=node,
            site=site,
        )
    return stored


def _unique(name: str, taken: dict[str, StoredTensor]) -> str:
    """`name`, numbered where nodes without names leave nothing else to tell two tensors apart."""
    if name not in taken:
        return name
    number = 2
    while f"{name}#{number}" in taken:
        number += 1
    return f"{name}#{number}"


def _kind(site: Site, value: ir.Value, node: ir.Node | None) -> Kind:
    if site.function is not None:
        return "function"
    if site.path:
        return "subgraph"
    if node is None:
        return "input_default" if value.is_graph_input() else "initializer"
    return "constant" if node.op_type == "Constant" else "constant_of_shape"


def _in_graph(graph: ir.Graph) -> Iterator[tuple[ir.Value, ir.Node | None, ir.TensorProtocol]]:
    for value in graph.initializers.values():
        if value.const_value is not None:
            yield value, None, value.const_value
    for node in graph:
        if node.domain or node.op_type not in ("Constant", "ConstantOfShape") or not node.outputs:
            continue
        tensor = _constant(node) if node.op_type == "Constant" else _filled(node)
        if tensor is not None:
            yield node.outputs[0], node, tensor


def _constant(node: ir.Node) -> ir.TensorProtocol | None:
    """What a Constant node holds; None where it takes it from an attribute of its function.

    Raises:
        ModelReadError: an attribute of it is of another type than its name says.
    """
    for attribute in node.attributes.values():
        if attribute.is_ref():
            return None
        if attribute.name == "value":
            return attribute_tensor(attribute)
        kind = _CONSTANTS.get(attribute.name)
        if kind is None:
            continue
        if attribute.type != kind:
            raise ModelReadError(
                f"Constant node {node.name!r}: attribute {attribute.name!r} is of type {attribute.type}, not {kind}; "
                "check the model with onnx.checker"
            )
        return _given(attribute, node.outputs[0].name)
    return None


def _given(attribute: ir.Attr, name: str | None) -> ir.TensorProtocol:
    """The tensor that one of the shorter attributes of a Constant node stands for."""
    value: Any = attribute.value
    match attribute.name:
        case "sparse_value":
            sparse: ir.TensorProtocol = value
            return sparse
        case "value_float" | "value_floats":
            return ir.Tensor(np.array(value, np.float32), name=name)
        case "value_int" | "value_ints":
            return ir.Tensor(np.array(value, np.int64), name=name)
    strings = np.array(value, dtype=object)
    return ir.StringTensor(strings, shape=ir.Shape(strings.shape), name=name)


def _filled(node: ir.Node) -> FillTensor | None:
    """What a ConstantOfShape node gives; None where its shape is not stored in the model."""
    source = node.inputs[0] if node.inputs else None
    if source is None:
        return None
    tensor: ir.TensorProtocol | None = None
    producer = source.producer()
    if producer is None:
        tensor = source.const_value if source.is_initializer() else None
    elif producer.op_type == "Constant" and not producer.domain:
        tensor = _constant(producer)
    if tensor is None or tensor.dtype != ir.DataType.INT64 or isinstance(tensor, SparseTensor):
        return None
    rank = tensor.shape.numpy()
    if len(rank) != 1 or rank[0] > 64:
        return None
    shape = [int(d) for d in tensor.numpy()]
    attribute = node.attributes.get("value")
    if attribute is not None and attribute.is_ref():
        return None
    fill = ir.Tensor(np.zeros(1, np.float32)) if attribute is None else attribute_tensor(attribute)
    if (
        any(d < 0 for d in shape)
        or math.prod(d or 1 for d in shape) > _MAX_ELEMENTS
        or fill.shape.numpy() not in ((1,), ())
    ):
        return None
    return FillTensor(fill.numpy(), node.outputs[0].name, fill.dtype, shape)
