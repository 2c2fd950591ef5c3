"""Operators of opset 23 to 28, deformable convolutions, tables and tokens: a rule or a reason for each tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import defs, helper, numpy_helper

from onnx_ghn import build_graph
from onnx_ghn.graph import ComputationGraph, Primitive
from onnx_ghn.graph.primitives import handler_table

RNG = np.random.default_rng(0)


def graph_of(
    nodes: list[onnx.NodeProto], x: tuple[int, ...], y: tuple[int, ...], tensors: dict[str, Any], opset: int
) -> ComputationGraph:
    made = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    ends = [helper.make_tensor_value_info("x", 1, x)], [helper.make_tensor_value_info("y", 1, y)]
    graph = helper.make_graph(nodes, "g", *ends, made)
    return build_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10))


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def told(graph: ComputationGraph) -> dict[str, str]:
    return {parameter.name: parameter.reason for parameter in graph.parameters}


def test_every_operator_that_onnx_knows_has_a_rule_or_is_listed() -> None:
    """Training operators and those of sequences of strings aside; control flow is walked before the table is asked."""
    walked = {"If", "Loop", "Scan", "SequenceMap"}
    known = {op for domain, op in handler_table() if not domain}
    new = {schema.name for schema in defs.get_all_schemas() if not schema.domain and schema.since_version >= 23}
    assert new - walked <= known
    assert known >= {"LinearAttention", "CausalConvWithState", "SwiGLU", "BitCast", "CumProd", "DeformConv", "GatherND"}


def test_a_causal_convolution_is_depthwise() -> None:
    nodes = [helper.make_node("CausalConvWithState", ["x", "w", "b"], ["y", "state"])]
    graph = graph_of(nodes, (1, 6, 16), (1, 6, 16), {"w": normal(6, 1, 4), "b": normal(6)}, 28)
    assert [(node.primitive, node.shape) for node in graph.nodes[1:]] == [
        (Primitive.sep_conv, (6, 1, 4, 1)),
        (Primitive.bias, (6,)),
    ]
    assert told(graph) == {"w": "", "b": ""}


def test_linear_attention_is_attention() -> None:
    weights = {name: normal(8, 8) for name in "qkv"}
    nodes = [helper.make_node("MatMul", ["x", name], [f"{name}x"]) for name in "qkv"]
    nodes.append(
        helper.make_node(
            "LinearAttention", ["qx", "kx", "vx"], ["y", "state"], q_num_heads=2, kv_num_heads=2, update_rule="linear"
        )
    )
    graph = graph_of(nodes, (1, 5, 8), (1, 5, 8), weights, 28)
    assert [node.primitive for node in graph.nodes[1:]] == [Primitive.conv] * 3 + [Primitive.msa]
    assert sorted(graph.edges.tolist()) == [[0, 1], [0, 2], [0, 3], [1, 4], [2, 4], [3, 4]]


def test_a_gated_activation_joins_its_halves() -> None:
    nodes = [helper.make_node("MatMul", ["x", name], [f"{name}x"]) for name in "ab"]
    nodes += [helper.make_node("SwiGLU", ["ax", "bx"], ["h"]), helper.make_node("MatMul", ["h", "c"], ["y"])]
    graph = graph_of(nodes, (1, 8), (1, 4), {"a": normal(8, 6), "b": normal(8, 6), "c": normal(6, 4)}, 28)
    assert sorted(graph.edges.tolist()) == [[0, 1], [0, 2], [1, 3], [2, 3]]


def test_a_deformable_convolution() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "o"], ["offset"], pads=[1, 1, 1, 1]),
        helper.make_node("DeformConv", ["x", "w", "offset", "b"], ["y"], pads=[1, 1, 1, 1]),
    ]
    tensors = {"o": normal(18, 3, 3, 3), "w": normal(5, 3, 3, 3), "b": normal(5)}
    graph = graph_of(nodes, (1, 3, 8, 8), (1, 5, 8, 8), tensors, 19)
    assert [(node.primitive, node.shape) for node in graph.nodes[2:]] == [
        (Primitive.conv, (5, 3, 3, 3)),
        (Primitive.bias, (5,)),
    ]
    assert told(graph) == {"o": "", "w": "", "b": ""}


@pytest.mark.parametrize("op", ["GatherND", "GatherElements"])
def test_tables_that_are_read_element_by_element(op: str) -> None:
    indices = np.zeros((4, 1) if op == "GatherND" else (1, 6), np.int64)
    nodes = [
        helper.make_node(op, ["table", "i"], ["rows"]),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "rows"], ["y"]),
    ]
    tensors = {"table": normal(7, 6), "i": indices, "w": normal(8, 6)}
    assert "table" in told(graph_of(nodes, (4, 8), (4, 6), tensors, 17))
    nodes[0] = helper.make_node("Cast", ["x"], ["ix"], to=7)
    nodes.insert(1, helper.make_node(op, ["table", "ix"], ["rows"]))
    nodes[2:] = [helper.make_node("MatMul", ["rows", "w"], ["y"])]
    reasons = told(graph_of(nodes, (4, 1), (4, 6), {"table": normal(7, 6), "w": normal(6, 6)}, 17))
    assert reasons["table"] == f"a table that {op} reads: no primitive stands for it"


@pytest.mark.parametrize("op", ["Where", "ScatterND"])
def test_mask_tokens(op: str) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"])]
    tensors = {"w": normal(8, 6), "token": normal(1, 6) if op == "ScatterND" else normal(6)}
    if op == "Where":
        tensors["cond"] = np.array([[True], [False], [True], [False]])
        nodes.append(helper.make_node("Where", ["cond", "token", "h"], ["m"]))
    else:
        tensors["i"] = np.array([[2]], np.int64)
        nodes.append(helper.make_node("ScatterND", ["h", "i", "token"], ["m"]))
    nodes.append(helper.make_node("MatMul", ["m", "v"], ["y"]))
    graph = graph_of(nodes, (4, 8), (4, 6), {**tensors, "v": normal(6, 6)}, 17)
    assert told(graph)["token"] == "a token in the place of data: nothing weighs with it"
    assert sorted(graph.edges.tolist()) == [[0, 1], [1, 2]]


def test_fills_and_masks_are_no_tokens() -> None:
    for fill in (np.zeros(6), np.full(6, -np.inf), np.array([0, 0, 0, -1e4, 0, 0])):
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Where", ["cond", "fill", "h"], ["y"]),
        ]
        tensors = {"w": normal(8, 6), "cond": np.array([[True]] * 4), "fill": fill.astype(np.float32)}
        assert set(told(graph_of(nodes, (4, 8), (4, 6), tensors, 17))) == {"w"}
