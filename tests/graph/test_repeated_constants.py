"""A constant that is repeated for a batch of any size is what it is for a batch of one: a bias, a token, a scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from onnx_ghn.graph import ComputationGraph, Role
from onnx_ghn.graph.builder import build_graph
from onnx_ghn.torch_export import module_to_file

N = helper.make_node
_LAYER = [N("MatMul", ["x", "w"], ["a"]), N("Shape", ["a"], ["sizes"])]


def _read(nodes: list[onnx.NodeProto], shape: tuple[int, ...]) -> ComputationGraph:
    """The graph of x @ w and what is made of it with a tensor `t` of that shape."""
    rng = np.random.default_rng(0)
    tensors = {"w": rng.standard_normal((4, 8)), "t": rng.standard_normal(shape)}
    graph = helper.make_graph(
        [*_LAYER, *nodes],
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None, 8])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model, full_check=True)
    return build_graph(model)


@pytest.mark.parametrize(
    ("nodes", "shape", "role", "primitive"),
    [
        ([N("Expand", ["t", "sizes"], ["b"]), N("Add", ["a", "b"], ["y"])], (8,), Role.bias, "bias"),
        ([N("Expand", ["t", "sizes"], ["b"]), N("Add", ["b", "a"], ["y"])], (1, 1, 8), Role.bias, "bias"),
        ([N("Expand", ["t", "sizes"], ["b"]), N("Add", ["a", "b"], ["y"])], (1, 3, 8), Role.position, "pos_enc"),
        ([N("Expand", ["t", "sizes"], ["b"]), N("Mul", ["a", "b"], ["y"])], (8,), Role.norm_scale, ""),
        ([N("Expand", ["t", "sizes"], ["b"]), N("Concat", ["b", "a"], ["y"], axis=1)], (1, 1, 8), Role.position, ""),
    ],
)
def test_expanded_by_the_sizes_of_the_data(
    nodes: list[onnx.NodeProto], shape: tuple[int, ...], role: Role, primitive: str
) -> None:
    graph = _read(nodes, shape)
    (row,) = (parameter for parameter in graph.parameters if parameter.name == "t")
    assert (row.role, row.shape) == (role, shape)
    assert graph.uncertain == ()
    decoding = [node.primitive.name for node in graph.nodes if node.name == "t"]
    assert decoding == [primitive] * bool(primitive)


def test_tiled_by_the_sizes_of_the_data() -> None:
    nodes = [
        N("Split", ["sizes"], ["n", "s", "c"], num_outputs=3, axis=0),
        N("Constant", [], ["one"], value_ints=[1]),
        N("Concat", ["n", "one", "one"], ["times"], axis=0),
        N("Tile", ["t", "times"], ["b"]),
        N("Add", ["a", "b"], ["y"]),
    ]
    graph = _read(nodes, (1, 3, 8))
    assert {p.name: p.role for p in graph.parameters} == {"w": Role.weight, "t": Role.position}


class _Tokens(nn.Module):
    """Patches with a class token and positions, as vision transformers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 5, 8))
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)  # (B, 4, 8)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)  # (B, 5, 8)
        return self.head((x + self.positions)[:, 0])


@pytest.mark.parametrize("free", [False, True])
def test_a_class_token_is_learned_whatever_the_batch(free: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = _Tokens()
    axes = {"dynamic_axes": {"x": {0: "batch"}}} if free else {}
    module_to_file(net, (torch.rand(2, 3, 8, 8),), {}, tmp_path / "net.onnx", "torchscript", input_names=["x"], **axes)
    graph = build_graph(tmp_path / "net.onnx")
    assert {p.name: p.size for p in graph.parameters} == {name: p.numel() for name, p in net.named_parameters()}
