"""Constant nodes whose attributes are of other types than their names say."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from onnx_ghn.errors import ModelReadError
from onnx_ghn.passes import open_model


def _model(kind: str, **attributes: Any) -> onnx.ModelProto:
    nodes = [
        helper.make_node(kind, ["sizes"] if kind == "ConstantOfShape" else [], ["c"], name="made", **attributes),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "c"], ["y"]),
    ]
    stored = [helper.make_tensor("w", 1, [4, 4], [0.5] * 16), helper.make_tensor("sizes", 7, [1], [4])]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("Constant", {"value": 3}),
        ("Constant", {"value": [0.5]}),
        ("Constant", {"value_float": "x"}),
        ("Constant", {"value_ints": 3}),
        ("Constant", {"value_string": 1}),
        ("Constant", {"sparse_value": 1.5}),
        ("ConstantOfShape", {"value": 3}),
    ],
)
def test_another_type_is_told_in_one_line(kind: str, attributes: dict[str, Any]) -> None:
    (name,) = attributes
    with pytest.raises(ModelReadError, match=f"attribute '{name}' is of type [A-Z]+, not .*onnx.checker"):
        open_model(_model(kind, **attributes))


@pytest.mark.parametrize("attributes", [{"value_float": 1.5}, {"value_floats": [0.5] * 4}])
def test_the_right_type_is_read(attributes: dict[str, Any]) -> None:
    assert open_model(_model("Constant", **attributes)).stored["c"].numpy().reshape(-1)[0] in (0.5, 1.5)
