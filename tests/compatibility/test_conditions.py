"""Each kind of predicate: a model that meets it, and one that does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.compatibility.checking import behaviours
from onnx_ghn.compatibility.conditions import PREDICATES, holds

node = helper.make_node


def first(
    *nodes: onnx.NodeProto,
    opset: int = 17,
    stored: tuple[str, ...] = (),
    rank: int = 4,
    type_of_w: int = TensorProto.FLOAT,
) -> ir.Node:
    """The first node of a model of these nodes, whose input `x` has `rank` dimensions."""
    shape = [2] * rank
    tensors = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name in stored]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    others = [
        helper.make_tensor_value_info(name, kind, None) for name, kind in (("w", type_of_w), ("b", TensorProto.FLOAT))
    ]
    y = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", [x, *others], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return ir.from_proto(model).graph[0]


RELU = node("Relu", ["x"], ["y"])
CONV = node("Conv", ["x", "w"], ["y"], group=2)
CASES: dict[str, tuple[Any, ir.Node, ir.Node]] = {
    "operators": (["Relu", "Elu"], first(RELU), first(node("Selu", ["x"], ["y"]))),
    "attributes": ({"group": [2]}, first(CONV), first(node("Conv", ["x", "w"], ["y"]))),
    "attributes_not": ({"group": [1]}, first(CONV), first(node("Conv", ["x", "w"], ["y"]))),
    "attributes_present": (["group"], first(CONV), first(node("Conv", ["x", "w"], ["y"]))),
    "attributes_containing": (
        {"equation": "..."},
        first(node("Einsum", ["x", "w"], ["y"], equation="...j,jk->...k")),
        first(node("Einsum", ["x", "w"], ["y"], equation="ij,jk->ik")),
    ),
    "inputs": ([2], first(node("Conv", ["x", "w", "b"], ["y"])), first(node("Conv", ["x", "w"], ["y"]))),
    "inputs_absent": ([2], first(node("Conv", ["x", "w"], ["y"])), first(node("Conv", ["x", "w", "b"], ["y"]))),
    "outputs": ([1], first(node("MaxPool", ["x"], ["y", "i"])), first(node("MaxPool", ["x"], ["y"]))),
    "outputs_absent": ([1], first(node("MaxPool", ["x"], ["y"])), first(node("MaxPool", ["x"], ["y", "i"]))),
    "stored": (
        [1],
        first(node("MatMul", ["x", "kept"], ["y"]), stored=("kept",)),
        first(node("MatMul", ["x", "w"], ["y"]), stored=("kept",)),
    ),
    "ranks": ({"0": [3, 5]}, first(RELU, rank=3), first(RELU, rank=4)),
    "types": (
        {"1": ["FLOAT"]},
        first(node("MatMul", ["x", "w"], ["y"])),
        first(node("MatMul", ["x", "w"], ["y"]), type_of_w=TensorProto.DOUBLE),
    ),
    "read_by": (
        ["Tanh"],
        first(node("Relu", ["x"], ["r"]), node("Tanh", ["r"], ["y"])),
        first(node("Relu", ["x"], ["r"]), node("Sigmoid", ["r"], ["y"])),
    ),
}


def test_each_predicate_has_a_case() -> None:
    assert set(CASES) | {"reads", "opset_from", "opset_below"} == set(PREDICATES)


@pytest.mark.parametrize("name", list(CASES))
def test_a_model_that_meets_it_and_one_that_does_not(name: str) -> None:
    argument, meets, misses = CASES[name]
    assert holds({name: argument}, meets, 17)
    assert not holds({name: argument}, misses, 17)


def test_what_gives_the_first_input() -> None:
    graph = first(node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])).graph
    assert graph is not None
    assert holds({"reads": ["Conv"]}, graph[1], 17)
    assert not holds({"reads": ["Gemm"]}, graph[1], 17)
    assert not holds({"reads": ["Conv"]}, graph[0], 17)


@pytest.mark.parametrize(("opset", "old"), [(11, True), (12, True), (13, False), (20, False)])
def test_opsets(opset: int, old: bool) -> None:
    assert holds({"opset_below": 13}, first(RELU), opset) == old
    assert holds({"opset_from": 13}, first(RELU), opset) != old


def test_the_default_of_an_attribute_is_that_of_the_opset() -> None:
    """Softmax has axis 1 by default before opset 13, and -1 from there on."""
    softmax = first(node("Softmax", ["x"], ["y"]))
    assert holds({"attributes": {"axis": [1]}}, softmax, 11)
    assert holds({"attributes": {"axis": [-1]}}, softmax, 13)


def test_other_domains_are_not_meant() -> None:
    other = first(node("Attention", ["x"], ["y"], domain="com.microsoft"))
    assert not holds({"operators": ["Attention"]}, other, 23)


def test_rows_are_well_formed() -> None:
    """Tools, effects and predicates exist, operators and attributes are ONNX's, and no row is there twice."""
    seen = set()
    schemas = {schema.name: schema for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    for row in behaviours():
        when: dict[str, Any] = dict(row.when)
        assert row.effect in ("refused", "wrong", "told")
        assert set(when) <= set(PREDICATES)
        for op_type in when["operators"]:
            for kind in ("attributes", "attributes_not", "attributes_containing"):
                assert set(when.get(kind, {})) <= set(schemas[op_type].attributes), (op_type, kind)
        key = (row.tool.key, row.effect, repr(when))
        assert key not in seen
        seen.add(key)
    assert len(seen) > 200
