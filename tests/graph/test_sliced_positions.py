"""A table of positions of which as many rows are taken as the data are long (Keras's PositionEmbedding, x[:, :n])."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnx_ghn import build_graph, predict
from onnx_ghn.graph import Primitive

_ROWS, _WIDTH = 9, 16


def _model(reads: list[Any], shape: tuple[int, ...] = (_ROWS, _WIDTH), values: np.ndarray | None = None) -> Any:
    """x @ w, and a table whose first rows are read by `reads`, from "rows" to "y"; "h" is the data."""
    rank = len(shape)
    rng = np.random.default_rng(0)
    table = rng.standard_normal(shape) if values is None else values
    stored = {
        "w": rng.standard_normal((_WIDTH, _WIDTH)).astype(np.float32),
        "table": table.astype(np.float32),
        "zero": np.array([0]),
        "axis": np.array([rank - 2]),
        "one": np.array([1]),
        "two": np.array([2]),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Slice", ["sizes", "one", "two"], ["length"]),
        helper.make_node("Slice", ["table", "zero", "length", "axis"], ["rows"]),
        *reads,
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["b", "n", _WIDTH]) for name in ("x", "y")]
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


_ADDED = [helper.make_node("Add", ["h", "rows"], ["y"])]
_SPREAD = [
    helper.make_node("Shape", ["h"], ["whole"]),
    helper.make_node("Expand", ["rows", "whole"], ["spread"]),
    helper.make_node("Add", ["spread", "h"], ["y"]),
]


@pytest.mark.parametrize("shape", [(_ROWS, _WIDTH), (1, _ROWS, _WIDTH)])
@pytest.mark.parametrize("reads", [_ADDED, _SPREAD], ids=["added", "spread"])
def test_rows_that_are_added_are_positions(reads: list[Any], shape: tuple[int, ...]) -> None:
    model = _model(reads, shape)
    graph = build_graph(model)
    (found,) = (p for p in graph.parameters if p.name == "table")
    assert found.role.value == "position"
    (node,) = (n for n in graph.nodes if n.primitive is Primitive.pos_enc)
    assert node.shape == (1, _ROWS, _WIDTH)
    assert any(n.primitive is Primitive.sum for n in graph.nodes)
    prediction = predict(model, policy="all")
    outcomes = {row["name"]: row["outcome"] for row in prediction.coverage.to_dict()["parameters"]}
    assert outcomes == {"w": "predicted", "table": "predicted"}


def test_rows_that_are_added_to_scores_are_none() -> None:
    reads = [helper.make_node("Add", ["h", "rows"], ["s"]), helper.make_node("Softmax", ["s"], ["y"])]
    assert "position" not in {p.role.value for p in build_graph(_model(reads)).parameters}


@pytest.mark.parametrize("op", ["Mul", "MatMul"])
def test_rows_that_multiply_are_none(op: str) -> None:
    turn = [helper.make_node("Transpose", ["rows"], ["turned"], perm=[1, 0])] if op == "MatMul" else []
    reads = [*turn, helper.make_node(op, ["h", "turned" if turn else "rows"], ["y"])]
    assert "position" not in {p.role.value for p in build_graph(_model(reads)).parameters}


def test_sines_stay() -> None:
    angles = np.arange(_ROWS)[:, None] / 10_000 ** (np.arange(_WIDTH // 2) / (_WIDTH // 2))
    table = np.concatenate([np.sin(angles), np.cos(angles)], 1)
    found = predict(_model(_ADDED, values=table), policy="all").coverage.to_dict()["parameters"]
    (row,) = (row for row in found if row["name"] == "table")
    assert (row["outcome"], row["reason"]) == ("kept", "the author's start: sines and cosines")
