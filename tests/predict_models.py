"""Small models for the tests of prediction, the tiny GHN that fills them, and what is counted independently of us."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.ghn import GHN, GHNConfig, new_ghn

FLOAT_TYPES = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
F = TensorProto.FLOAT


@functools.cache
def tiny_ghn() -> GHN:
    return new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(8, 8, 3, 3), num_classes=10), seed=0)


def besides_copies(notes: Sequence[str]) -> list[str]:
    """Without the note on copies, which small GHNs bring about in most models, and which tests of its own hold."""
    return [note for note in notes if "units that are copies of each other" not in note]


class Net:
    """A model under construction."""

    def __init__(self, opset: int = 17, dtype: Any = np.float32, ir_version: int = 8) -> None:
        self.opset, self.dtype, self.ir_version = opset, np.dtype(dtype), ir_version
        self.kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.domains = {"": opset}
        self.functions: list[onnx.FunctionProto] = []

    def input(self, *shape: Any, name: str = "x", kind: int | None = None) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, self.kind if kind is None else kind, shape))
        return name

    def tensor(self, name: str, array: Any, dtype: Any = None) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(array, dtype or self.dtype), name))
        return name

    def random(self, name: str, *shape: int) -> str:
        return self.tensor(name, self.rng.standard_normal(shape))

    def op(self, kind: str, *inputs: str, out: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=f"n_{out}", domain=domain, **attributes))
        self.domains.setdefault(domain, 1)
        return out

    def conv(self, x: str, n_in: int, n_out: int, name: str, kernel: int = 3, rank: int = 2) -> str:
        pads = [kernel // 2] * 2 * rank
        return self.op("Conv", x, self.random(f"{name}.w", n_out, n_in, *[kernel] * rank), out=f"{name}.y", pads=pads)

    def bn(self, x: str, width: int, name: str, **attributes: Any) -> str:
        """Batch norm that does nothing yet: mean 0, variance 1."""
        given = [
            self.tensor(f"{name}.{what}", values)
            for what, values in (
                ("scale", self.rng.uniform(0.5, 1.5, width)),
                ("shift", self.rng.standard_normal(width)),
                ("mean", np.linspace(0, 0.5, width)),
                ("var", np.linspace(1, 2, width)),
            )
        ]
        return self.op("BatchNormalization", x, *given, out=f"{name}.y", **attributes)

    def model(self, *outputs: str, kind: int | None = None, shape: Any = None) -> onnx.ModelProto:
        ends = [helper.make_tensor_value_info(name, self.kind if kind is None else kind, shape) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, ends, self.tensors)
        opsets = [helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=self.ir_version, functions=self.functions)
        if shape is None:  # the checker wants shapes
            inferred = onnx.shape_inference.infer_shapes(made)
            del made.graph.output[:]
            made.graph.output.extend(inferred.graph.output)
        return made


def mlp(dtype: Any = np.float32, n_in: int = 12, width: int = 20, n_out: int = 10) -> onnx.ModelProto:
    """MatMul, bias, Relu, Gemm: wider than the tiny GHN's blocks, so that tensors are tiled."""
    net = Net(dtype=dtype)
    net.input("N", n_in)
    net.op("MatMul", "x", net.random("w1", n_in, width), out="h")
    net.op("Add", "h", net.random("b1", width), out="a")
    net.op("Relu", "a", out="r")
    net.op("Gemm", "r", net.random("w2", n_out, width), net.random("b2", n_out), out="y", transB=1)
    return net.model("y")


def cnn(batch: Any = "N", opset: int = 17, dtype: Any = np.float32, bias: float = 0) -> onnx.ModelProto:
    """Two convolutions with batch norms, a mean, a classifier. The input is `bias` off zero."""
    net = Net(opset, dtype)
    x = net.input(batch, 3, 16, 16)
    if bias:
        x = net.op("Add", x, net.tensor("offset", bias), out="offset_x")
    x = net.op("Relu", net.bn(net.conv(x, 3, 12, "conv1"), 12, "bn1"), out="r1")
    x = net.op("Relu", net.bn(net.conv(x, 12, 16, "conv2"), 16, "bn2"), out="r2")
    x = net.op("GlobalAveragePool", x, out="pool")
    x = net.op("Flatten", x, out="flat")
    net.op("Gemm", x, net.random("fc.w", 10, 16), net.random("fc.b", 10), out="y", transB=1)
    return net.model("y")


def session(source: Any) -> Any:
    """An onnxruntime session, one thread, as onnxruntime comes: nothing of ours in between."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    given = source.SerializeToString() if isinstance(source, onnx.ModelProto) else str(source)
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def random_feed(runtime: Any, batch: int = 2, free: int = 32, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    types = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
    feed = {}
    for value in runtime.get_inputs():
        shape = [dim if isinstance(dim, int) else (free if i else batch) for i, dim in enumerate(value.shape)]
        # A mask over cached and new tokens is as long as both.
        shape = [
            2 * size if str(dim).startswith("total") else size for dim, size in zip(value.shape, shape, strict=True)
        ]
        if value.type in types:
            feed[value.name] = rng.standard_normal(shape).astype(types[value.type])
        else:
            feed[value.name] = rng.integers(0, 2, shape).astype(np.int64 if "64" in value.type else np.int32)
    return feed


def run(source: Any, feed: dict[str, np.ndarray] | None = None, outputs: list[str] | None = None) -> list[np.ndarray]:
    runtime = session(source)
    return runtime.run(outputs, random_feed(runtime) if feed is None else feed)


def constant_nodes(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    nodes = [node for node in proto.graph.node if node.op_type == "Constant"]
    return {node.output[0]: a.t for node in nodes for a in node.attribute if a.name == "value"}


def float_tensors(proto: onnx.ModelProto) -> dict[str, int]:
    """Name and size of every float tensor of more than one element that the main graph stores or generates."""
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    stored |= constant_nodes(proto)
    found = {n: math.prod(t.dims) for n, t in stored.items() if t.data_type in FLOAT_TYPES}
    for node in proto.graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in stored:
            kinds = [a.t.data_type for a in node.attribute if a.name == "value"] or [F]
            if kinds[0] in FLOAT_TYPES:
                shape = numpy_helper.to_array(stored[node.input[0]])
                found[node.output[0]] = math.prod(int(dim) for dim in shape)
    return {name: size for name, size in found.items() if size > 1}


def arrays(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """What the main graph stores, Constant nodes included."""
    stored = {tensor.name: tensor for tensor in proto.graph.initializer} | constant_nodes(proto)
    return {name: numpy_helper.to_array(tensor).copy() for name, tensor in stored.items()}


def signature(proto: onnx.ModelProto) -> dict[str, Any]:
    """What a prediction leaves alone: operators, inputs and outputs, opsets. Generated tensors may become stored."""
    graph = proto.graph
    return {
        "operators": [n.op_type for n in graph.node if n.op_type not in ("Constant", "ConstantOfShape")],
        "wires": [
            (list(n.input), list(n.output)) for n in graph.node if n.op_type not in ("Constant", "ConstantOfShape")
        ],
        "inputs": [v.SerializeToString() for v in graph.input],
        "outputs": [v.SerializeToString() for v in graph.output],
        "opsets": sorted((o.domain, o.version) for o in proto.opset_import),
        "ir_version": proto.ir_version,
    }


def export(net: Any, args: tuple[Any, ...], path: Path, *, dynamo: bool = False, **options: Any) -> onnx.ModelProto:
    """A torch module as the old or the new exporter writes it, nothing folded."""
    import torch

    if dynamo:
        options = {"dynamo": True, "optimize": False, "verbose": False, "external_data": False, **options}
    else:
        training = torch.onnx.TrainingMode.PRESERVE
        options = {"dynamo": False, "training": training, "do_constant_folding": False, **options}
    silence = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), silence[0], silence[1]:
        warnings.simplefilter("ignore")
        torch.onnx.export(net.eval(), args, path, **options)
    return onnx.load(path)
