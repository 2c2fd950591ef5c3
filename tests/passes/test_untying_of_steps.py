"""Layers that are used several times, and unrolled loops, keep the tensors that their steps share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from predict_models import Net, random_feed, run, session
from test_untying import untied
from torch import nn

from onnx_ghn import build_graph
from onnx_ghn.torch_export import module_to_file


def shared_layer(bias: bool = True, steps: int = 2, kind: str = "MatMul", own_norm: bool = False) -> onnx.ModelProto:
    """A layer used several times, written by Keras with torch: the second use reads its tensors through Identity nodes.

    Args:
        own_norm: behind each use stands a batch norm of its own, whose fresh vectors were merged as well.
    """
    net = Net()
    shape: tuple[object, ...] = ("N", 6, 5, 5) if kind == "Conv" else ("N", 6)
    x = net.input(*shape)
    net.random("w", *((6, 6, 1, 1) if kind == "Conv" else (6, 6)))
    net.tensor("b", np.zeros(6))
    stored = [tensor.name for tensor in net.tensors]
    if own_norm:
        net.tensor("one", np.ones(6))
    for i in range(steps):
        names = {name: net.op("Identity", name, out=f"{name}{i}") if i else name for name in stored}
        if kind == "MatMul":
            x = net.op("MatMul", x, names["w"], out=f"m{i}")
            x = net.op("Add", x, names["b"], out=f"a{i}") if bias else x
        else:
            x = net.op(kind, x, names["w"], names["b"], out=f"a{i}")
        if own_norm:
            merged = [net.op("Identity", name, out=f"{name}{i}{k}") for k, name in enumerate(["one", "b", "b", "one"])]
            x = net.op("BatchNormalization", x, *merged, out=f"n{i}")
        x = net.op("Relu", x, out=f"r{i}")
    return net.model(x, shape=shape)


@pytest.mark.parametrize("kind", ["MatMul", "Gemm", "Conv"])
@pytest.mark.parametrize("steps", [2, 3])
def test_the_bias_of_a_layer_used_twice_stays_one(kind: str, steps: int, tmp_path: Path) -> None:
    proto = shared_layer(kind=kind, steps=steps)
    assert untied(proto, tmp_path)[1] == []
    graph = build_graph(proto)
    assert {p.name: p.size for p in graph.parameters} == {"w": 36, "b": 6}


def test_norms_of_their_own_behind_a_shared_layer_come_apart(tmp_path: Path) -> None:
    """As the heads of a detector have them: one convolution for all levels, and a batch norm for each."""
    proto = shared_layer(kind="Conv", own_norm=True)
    written, new = untied(proto, tmp_path)
    convolutions = [node for node in written.graph.node if node.op_type == "Conv"]
    identity = {node.output[0]: node.input[0] for node in written.graph.node if node.op_type == "Identity"}
    assert [identity.get(node.input[2], node.input[2]) for node in convolutions] == ["b", "b"]
    norms = [node for node in written.graph.node if node.op_type == "BatchNormalization"]
    read = [identity.get(name, name) for node in norms for name in node.input[1:]]
    assert len(set(read)) == 8
    assert len(new) >= 7
    feed = random_feed(session(proto))
    np.testing.assert_array_equal(run(written, feed)[0], run(proto, feed)[0])


class Steps(nn.Module):
    """Adds a vector to each step of what a layer makes of a sequence, as RWKV does: it is one parameter."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layers = nn.ModuleList(nn.Linear(8, 8, bias=False) for _ in range(2))
        self.firsts = nn.ParameterList(torch.full((8,), 0.3) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, first in zip(self.layers, self.firsts, strict=True):
            keys = layer(x)  # (B, steps, 8)
            steps = [keys[:, t] if self.kind == "select" else keys[:, t : t + 1].squeeze(1) for t in range(4)]
            x = torch.stack([torch.tanh(step + first) for step in steps], 1)
        return x


@pytest.mark.parametrize("kind", ["select", "slice"])
def test_the_steps_of_an_unrolled_loop_share_their_vector(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Steps(kind)
    module_to_file(net, (torch.rand(1, 4, 8),), {}, tmp_path / "steps.onnx", "torchscript")
    graph = build_graph(tmp_path / "steps.onnx")
    assert {p.name: p.size for p in graph.parameters} == {name: p.numel() for name, p in net.named_parameters()}


def test_the_steps_of_a_loop_share_their_vector_in_a_file_of_anyone(tmp_path: Path) -> None:
    """Here the vectors of both layers are one tensor, and come apart by their matrices alone."""
    torch.manual_seed(0)
    net = Steps("select")
    module_to_file(net, (torch.rand(1, 4, 8),), {}, tmp_path / "steps.onnx", "torchscript")
    proto = onnx.load(tmp_path / "steps.onnx")
    proto.producer_name = "acme"
    for node in [node for node in proto.graph.node if node.op_type == "Identity"]:
        for reader in proto.graph.node:
            for place, name in enumerate(reader.input):
                if name == node.output[0]:
                    reader.input[place] = node.input[0]
        proto.graph.node.remove(node)
    graph = build_graph(proto)
    sizes = sorted(p.size for p in graph.parameters)
    assert sizes == [8, 8, 64, 64]


def test_a_bias_that_goes_into_a_loop_with_its_matrix_stays_one(tmp_path: Path) -> None:
    """tf2onnx computes the first step of a recurrence before the loop, which takes matrices and bias as its states."""
    net = Net()
    net.input("N", 6)
    shapes = {"w": (6, 6), "r": (6, 6)}
    for name, shape in shapes.items():
        net.random(name, *shape)
    net.tensor("b", np.zeros(6))
    states = ["h", "w_in", "r_in", "b_in"]
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["h", "r_in"], ["hr"]),
            helper.make_node("Add", ["hr", "b_in"], ["hb"]),
            helper.make_node("Tanh", ["hb"], ["h_next"]),
            *(helper.make_node("Identity", [name], [f"{name}_next"]) for name in ("on", "w_in", "r_in", "b_in")),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in states),
        ],
        [
            helper.make_tensor_value_info("on_next", TensorProto.BOOL, []),
            *(helper.make_tensor_value_info(f"{name}_next", TensorProto.FLOAT, None) for name in states),
        ],
    )
    net.tensors.append(numpy_helper.from_array(np.array(3, np.int64), "steps"))
    net.op("MatMul", "x", "w", out="xw")
    net.op("MatMul", "x", "r", out="xr")
    net.op("Add", "xw", "xr", out="sum")
    net.op("Add", "sum", "b", out="first")
    net.nodes.append(
        helper.make_node("Loop", ["steps", "", "first", "w", "r", "b"], ["y", "w_out", "r_out", "b_out"], body=body)
    )
    proto = net.model("y", shape=("N", 6))
    assert untied(proto, tmp_path)[1] == []
    assert sum(p.size for p in build_graph(proto).parameters if p.name == "b") == 6
