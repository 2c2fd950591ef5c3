"""Operators that break the rules of their type are ones that nobody knows; mistakes of ours are no such thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.graph.builder import graph_of, read_graph
from onnx_ghn.graph.flat import Op
from onnx_ghn.graph.flatten import flatten
from onnx_ghn.inheritance import following
from onnx_ghn.inheritance.structure import structure_of
from onnx_ghn.inheritance.tracing import Trace
from onnx_ghn.passes import open_model


def _model(*broken: onnx.NodeProto, weight: tuple[int, ...] = (4, 4)) -> onnx.ModelProto:
    """A matrix product, and behind it what a test is about."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), *broken]
    stored = [
        numpy_helper.from_array(np.random.default_rng(0).normal(size=weight).astype(np.float32), "w"),
        numpy_helper.from_array(np.array([2, -1], np.int64), "sizes"),
        numpy_helper.from_array(np.array([0.5, 1.5], np.float32), "halves"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3, 4]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _follow(model: onnx.ModelProto) -> Trace:
    opened = open_model(model)
    graph, flat = read_graph(opened.model, opened.stored, "onnx")
    return following.follow(flat, graph)


def _node(kind: str, inputs: tuple[str, ...] = ("h",), **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), ["y"], **attributes)


@pytest.mark.parametrize(
    "broken",
    [
        _node("Transpose", perm=[0, 7]),
        _node("Transpose", perm=[0.5, 1.5]),
        _node("Concat", ("h", "h"), axis="1"),
        _node("Unsqueeze", axes=[0, 0]),
        _node("Split", split=[10**12]),
        _node("MatMul", ("", "w")),
        _node("Gemm", ("h",)),
    ],
    ids=lambda node: f"{node.op_type} {[a.name for a in node.attribute]}",
)
def test_an_operator_that_breaks_its_rules_is_named_as_unknown(broken: onnx.NodeProto) -> None:
    sound, opened = open_model(_model(_node("Relu"))), open_model(_model(broken))
    graph = graph_of(sound.model, sound.stored, "onnx")  # which would refuse the broken one
    trace = following.follow(flatten(opened.model, opened.stored), graph)
    assert trace.unknown == {broken.op_type: 1}


def test_huge_paddings_and_repeats_are_not_made() -> None:
    """10^13 channels that no tensor makes: their labels would take 80 TB."""
    huge = numpy_helper.from_array(np.array([0, 10**13, 0, 0], np.int64), "pads")
    model = _model(_node("Pad", ("h", "pads")))
    model.graph.initializer.append(huge)
    assert _follow(model).labels.count < 100
    huge = numpy_helper.from_array(np.array([1, 10**13], np.int64), "repeats")
    model = _model(_node("Tile", ("h", "repeats")))
    model.graph.initializer.append(huge)
    assert _follow(model).labels.count < 100


def test_half_a_size_is_no_size() -> None:
    trace = _follow(_model(_node("Reshape", ("h", "sizes"))))
    assert not trace.unknown
    broken = _model(_node("ConstantOfShape", ("halves",)), _node("Relu", ("h",)))
    broken.graph.node[1].output[0] = "unused"
    assert _follow(broken).uses["w"].kind == "linear"


@pytest.mark.parametrize("mistake", [AssertionError, AttributeError, KeyError, TypeError])
def test_a_mistake_of_ours_is_not_swallowed(mistake: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(trace: Trace, op: Op) -> None:
        raise mistake("of ours")

    rules: dict[str, Callable[[Trace, Op], None]] = {**following._RULES, "Relu": broken}
    monkeypatch.setattr(following, "_RULES", rules)
    with pytest.raises(mistake, match="of ours"):
        _follow(_model(_node("Relu")))


def test_a_model_is_flattened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_ghn.graph import builder
    from onnx_ghn.inheritance.donor import open_donor

    calls: list[str] = []

    def counted(*arguments: Any) -> Any:
        calls.append("flatten")
        return flatten(*arguments)

    monkeypatch.setattr(builder, "flatten", counted)
    assert not hasattr(following, "flatten")
    open_donor(_model(_node("Relu")))
    assert calls == ["flatten"]


def test_an_einsum_behind_a_flattened_map_reads_none_any_more() -> None:
    """What follows reads channels, though both have as many numbers as the map has channels and places."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Einsum", ["f", "a"], ["h"], equation="ni,io->no"),
        helper.make_node("MatMul", ["h", "b"], ["y"]),
    ]
    sizes = {"k": (2, 3, 1, 1), "a": (8, 8), "b": (8, 8)}
    stored = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in sizes.items()]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 2, 2]), ("y", [1, 8]))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], stored)
    trace = _follow(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert "b" not in trace.places


def test_a_branch_of_unknown_sizes_ends_in_its_sum() -> None:
    """Nobody knows what Magic gives: it may have the sizes of what it is added to."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("MatMul", ["h", "b"], ["i"]),
        helper.make_node("Magic", ["i"], ["j"], domain="my.ops"),
        helper.make_node("Add", ["h", "j"], ["k"]),
        helper.make_node("MatMul", ["k", "c"], ["y"]),
    ]
    stored = [numpy_helper.from_array(rng.normal(size=(4, 4)).astype(np.float32), n) for n in "abc"]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3, 4]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)]
    blocks = structure_of(_follow(helper.make_model(graph, opset_imports=opsets, ir_version=8))).blocks
    assert [[piece.name for piece in block.pieces] for block in blocks if block.is_sum] == [["b"]]
