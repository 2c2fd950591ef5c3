"""Weights that go through sequences, and those in the body of SequenceMap, are read as what they are."""

from __future__ import annotations

import graph_models as m
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.graph import build_graph


def _roles(net: m.Net, output: str) -> dict[str, str]:
    graph = build_graph(net.model(output))
    return {p.name: p.role.name for p in graph.parameters if not p.reason}


def test_a_weight_that_is_taken_of_a_list_is_a_weight() -> None:
    net = m.Net()
    x = net.input(2, 8)
    listed = net.op("SequenceConstruct", *(net.weight(8, 8, name=f"w{i}") for i in range(3)))
    h = net.op("Relu", net.op("MatMul", x, net.op("SequenceAt", listed, net.number(0, np.int64))))
    y = net.op("MatMul", h, net.op("SequenceAt", listed, net.number(-1, np.int64)))
    graph = build_graph(net.model(y))
    assert {p.name: p.role.name for p in graph.parameters} == {"w0": "weight", "w2": "weight"}
    assert [p.name for p in graph.uncertain] == ["w1"]


def test_weights_that_are_joined_from_a_sequence_are_weights() -> None:
    net = m.Net()
    x = net.input(2, 8)
    listed = net.op("SequenceConstruct", net.weight(8, 8, name="w0"), net.weight(8, 8, name="w1"))
    y = net.op("MatMul", x, net.op("ConcatFromSequence", listed, axis=1))
    assert _roles(net, y) == {"w0": "weight", "w1": "weight"}


def test_the_body_of_a_sequence_map_is_walked() -> None:
    net = m.Net()
    x = net.input(2, 8)
    rng = np.random.default_rng(0)
    stored = {"w": rng.standard_normal((8, 6)), "b": rng.standard_normal(6)}
    nodes = [helper.make_node("MatMul", ["e", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["o"])]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, None)] for name in "eo"]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()]
    mapped = net.op(
        "SequenceMap", net.op("SequenceConstruct", x, x), body=helper.make_graph(nodes, "body", *ends, tensors)
    )
    y = net.op("MatMul", net.op("ConcatFromSequence", mapped, axis=1), net.weight(12, 4, name="v"))
    assert _roles(net, y) == {"w": "weight", "b": "bias", "v": "weight"}
