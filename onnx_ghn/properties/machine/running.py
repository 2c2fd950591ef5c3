"""The graph that onnxruntime runs, with the shapes of all its values, without running it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from onnx_ghn.profiling.runtime_shapes import runtime_shapes
from onnx_ghn.profiling.sessions import timed_session
from onnx_ghn.profiling.settings import Point, Settings

__all__ = ["PRODUCTS", "RunGraph", "RunNode", "Value", "read_graph", "write_graph"]

#: Products of two matrices.
PRODUCTS = frozenset({"MatMul", "FusedMatMul", "TransposeMatMul", "Gemm", "FusedGemm"})
_STREAMING = PRODUCTS | {"Conv", "FusedConv", "ConvTranspose", "LSTM", "GRU", "RNN"}
_STRING_BYTES = 16  # of which the text is not a part


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor of a run.

    Attributes:
        shape: with 1 for sizes that only a run would tell.
        item_bytes: of an element.
        is_constant: stored in the session.
        is_sized: all of its sizes are known.
    """

    name: str
    shape: tuple[int, ...]
    item_bytes: int
    is_constant: bool = False
    is_sized: bool = True

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Number of bytes."""
        return self.size * self.item_bytes


@dataclasses.dataclass(frozen=True)
class RunNode:
    """A node of the graph that onnxruntime runs. An absent input or output is None."""

    name: str
    op_type: str
    domain: str
    attributes: Mapping[str, Any]
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    has_body: bool = False


@dataclasses.dataclass(frozen=True)
class RunGraph:
    """Nodes in the order in which they run.

    Attributes:
        nodes: of the main graph; of the bodies of Loop, If and Scan, only that there are some.
        inputs: that are fed.
        outputs: names of what a run gives.
        constants: what the session stores, each once.
    """

    nodes: tuple[RunNode, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[str, ...]
    constants: tuple[Value, ...]

    @property
    def streamed_bytes(self) -> int:
        """Number of bytes of weights that a run reads whole: those of products, not tables of which it picks rows."""
        found = {
            value.name: value.n_bytes
            for node in self.nodes
            if node.op_type in _STREAMING
            for value in node.inputs[1:3]
            if value is not None and value.is_constant
        }
        return sum(found.values())

    @property
    def is_sized(self) -> bool:
        """All sizes are known, and no operator has a body that runs a number of times."""
        return not any(
            node.has_body or any(v is not None and not v.is_sized for v in node.outputs) for node in self.nodes
        )


def write_graph(
    model: bytes | str, point: Point, folder: str, optimized: Path, settings: Settings | None = None
) -> None:
    """Let onnxruntime write the graph that it would run; nothing is run.

    Raises:
        RuntimeFailure: a model that onnxruntime refuses.
    """
    timed_session(model, point, settings or Settings(), folder=folder, optimized=optimized)


def read_graph(optimized: Path, point: Point, settings: Settings | None = None) -> RunGraph:
    """The graph of a file that onnxruntime wrote, with the shapes that it infers.

    Raises:
        RuntimeFailure: onnxruntime refuses the copy.
    """
    proto = onnx.load(optimized, load_external_data=False)
    types = runtime_shapes(optimized, point, settings or Settings())
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    constants = {
        name: Value(name, tuple(tensor.dims), _element_bytes(tensor.data_type), is_constant=True)
        for name, tensor in stored.items()
    }
    fed = tuple(_value(value.name, *_declared(value)) for value in proto.graph.input if value.name not in constants)
    known: dict[str, Value] = {**constants, **{value.name: value for value in fed}}
    nodes = []
    for node in proto.graph.node:
        for name in node.output:
            if name:
                known[name] = _value(name, *types.get(name, ((None,), onnx.TensorProto.FLOAT)))
        attributes = {
            entry.name: helper.get_attribute_value(entry)
            for entry in node.attribute
            if entry.type not in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS, onnx.AttributeProto.TENSOR)
        }
        has_body = any(entry.HasField("g") or entry.graphs for entry in node.attribute)
        inputs = tuple(known.get(name, Value(name, (1,), 4, is_sized=False)) if name else None for name in node.input)
        outputs = tuple(known[name] if name else None for name in node.output)
        nodes.append(RunNode(node.name, node.op_type, node.domain, attributes, inputs, outputs, has_body))
    return RunGraph(tuple(nodes), fed, tuple(value.name for value in proto.graph.output), tuple(constants.values()))


def _declared(value: onnx.ValueInfoProto) -> tuple[tuple[int | None, ...], int]:
    kind = value.type.tensor_type
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim), kind.elem_type


def _value(name: str, dims: tuple[int | None, ...], element_type: int) -> Value:
    shape = tuple(1 if dim is None else dim for dim in dims)
    return Value(name, shape, _element_bytes(element_type), is_sized=None not in dims)


def _element_bytes(element_type: int) -> int:
    if element_type == onnx.TensorProto.STRING:
        return _STRING_BYTES
    return int(helper.tensor_dtype_to_np_dtype(element_type).itemsize)
