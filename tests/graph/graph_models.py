"""Small ONNX models for the tests of graph, and how to run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.graph import ComputationGraph, Parameter, build_graph

F = TensorProto.FLOAT
MS = "com.microsoft"
RULES = ("ppuda", "ghn3", "onnx")


class Net:
    """A model under construction; every method gives the name of a value."""

    def __init__(self, opset: int = 17, ir_version: int = 8, seed: int = 0) -> None:
        self.opset = opset
        self.ir_version = ir_version
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.functions: list[onnx.FunctionProto] = []
        self.domains = {"": opset}
        self._count = 0

    def fresh(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def input(self, *shape: Any, name: str = "x", kind: int = F) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def array(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def weight(self, *shape: int, name: str = "w", array: np.ndarray | None = None) -> str:
        """An initializer, random unless an array is given."""
        self.tensors.append(numpy_helper.from_array(self.array(*shape) if array is None else array, name))
        return name

    def number(self, value: Any, dtype: Any = np.float32) -> str:
        """A constant that nobody trains: a scalar, axes, a shape."""
        return self.weight(name=f"c_{self.fresh()}", array=np.array(value, dtype))

    def op(self, op_type: str, *inputs: str, n: int = 1, domain: str = "", **attrs: Any) -> Any:
        names = [self.fresh() for _ in range(n)]
        self.nodes.append(helper.make_node(op_type, list(inputs), names, name=f"n_{names[0]}", domain=domain, **attrs))
        if domain:
            self.domains.setdefault(domain, 1)
        return names[0] if n == 1 else names

    def constant(self, array: np.ndarray) -> str:
        """A Constant node."""
        return self.op("Constant", value=numpy_helper.from_array(array, "value"))

    def model(self, *outputs: str, kind: int = F, shape: Any = None) -> onnx.ModelProto:
        ends = [helper.make_tensor_value_info(name, kind, shape) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, ends, self.tensors)
        opsets = [helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=self.ir_version, functions=self.functions)

    # -- layers that the tests repeat --

    def linear(self, x: str, n_in: int, n_out: int, name: str) -> str:
        return self.op("MatMul", x, self.weight(n_in, n_out, name=name))

    def conv(self, x: str, n_in: int, n_out: int, name: str, kernel: int = 1, **attrs: Any) -> str:
        pads = [kernel // 2] * 4
        return self.op("Conv", x, self.weight(n_out, n_in, kernel, kernel, name=name), pads=pads, **attrs)


def kinds(graph: ComputationGraph) -> list[str]:
    """The primitives, in order, without the input."""
    return [node.primitive.name for node in graph.nodes[1:]]


def edges(graph: ComputationGraph) -> set[tuple[str, str]]:
    """Edges by primitive and number: ("conv1", "bias2")."""
    names = [f"{node.primitive.name}{i}" for i, node in enumerate(graph.nodes)]
    return {(names[a], names[b]) for a, b in graph.edges.tolist()}


def parameters(graph: ComputationGraph) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in graph.parameters}


def decoded(graph: ComputationGraph) -> set[str]:
    """Names of the parameters that some node decodes."""
    return {graph.parameters[i].name for i in graph.decoded_parameters()}


def roles(model: onnx.ModelProto, rules: str = "onnx") -> dict[str, str]:
    return {p.name: p.role.value for p in build_graph(model, rules).parameters}


def run(model: onnx.ModelProto, **feeds: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def fill(model: onnx.ModelProto, seed: int = 1) -> tuple[onnx.ModelProto, Mapping[str, np.ndarray]]:
    """The model with new parameters, and the canonical tensors that they were written from.

    A 3-D kernel's canonical tensor is 2-D; statistics stay.
    """
    graph = build_graph(model)
    rng = np.random.default_rng(seed)
    filled = onnx.ModelProto()
    filled.CopyFrom(model)
    stored = {tensor.name: tensor for tensor in filled.graph.initializer}
    canonical = {}
    for parameter in graph.parameters:
        if parameter.role.value == "statistic":
            continue
        array = rng.standard_normal(parameter.layout.canonical).astype(np.float32)
        canonical[parameter.name] = array
        new = parameter.layout.from_canonical(array).astype(numpy_helper.to_array(stored[parameter.name]).dtype)
        stored[parameter.name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new), parameter.name))
    return filled, canonical


def drawn(model: onnx.ModelProto) -> dict[str, list[str]]:
    """The primitives under each rule set."""
    return {rules: kinds(build_graph(model, rules)) for rules in RULES}


def everywhere(model: onnx.ModelProto) -> list[str]:
    """The primitives, where all rule sets agree."""
    ppuda, ghn3, ours = drawn(model).values()
    assert ppuda == ghn3 == ours
    return ours
