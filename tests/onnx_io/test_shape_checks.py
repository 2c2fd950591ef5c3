"""Weights whose shapes fit nothing are refused with node, operator, tensor and shapes, as onnxruntime refuses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import onnx_ghn
from onnx_ghn.errors import GraphError
from onnx_ghn.inspection import inspect_model

IMAGE = (2, 6, 8, 8)
SEQUENCE = (5, 2, 6)
Case = tuple[str, tuple[int | str, ...], dict[str, tuple[int, ...]], dict[str, Any]]


def single(
    op: str, shape: tuple[Any, ...], weights: dict[str, tuple[int, ...]], opset: int = 22, **attributes: Any
) -> onnx.ModelProto:
    """One operator on an input of a shape, behind another operator, so that its shape has to be inferred."""
    names = ["h", *weights]
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node(op, names, ["y"], name="part/layer", **attributes),
    ]
    tensors = [numpy_helper.from_array(np.ones(s, np.float32), name) for name, s in weights.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, None)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def runs(proto: onnx.ModelProto) -> bool:
    """Whether onnxruntime loads the model and runs it, free sizes being 4."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        shape = [size if isinstance(size, int) else 4 for size in session.get_inputs()[0].shape]
        session.run(None, {"x": np.ones(shape, np.float32)})
    except Exception:  # noqa: BLE001 - of many kinds
        return False
    return True


IMPOSSIBLE: list[tuple[Case, str]] = [
    (("Conv", IMAGE, {"w": (4, 6, 3, 3), "b": (5,)}, {}), "'b' of shape [5] should have 4"),
    (("Conv", IMAGE, {"w": (4, 5, 3, 3)}, {}), "takes 5 channels, and its input 'h' of shape [2, 6, 8, 8] has 6"),
    (("Conv", IMAGE, {"w": (4, 2, 3, 3)}, {"group": 2}), "takes 4 channels"),
    (("Conv", IMAGE, {"w": (4, 6, 3)}, {}), "'w' of shape [4, 6, 3] has another rank"),
    (("Conv", IMAGE, {"w": (4, 6, 3, 3)}, {"kernel_shape": [5, 5]}), "is no kernel of [5, 5]"),
    (("ConvTranspose", IMAGE, {"w": (5, 4, 3, 3)}, {}), "takes 5 channels"),
    (("ConvTranspose", IMAGE, {"w": (6, 4, 3, 3), "b": (6,)}, {}), "'b' of shape [6] should have 4"),
    (("Gemm", (3, 6), {"w": (5, 4)}, {}), "6 and 5 differ"),
    (("Gemm", (3, 6), {"w": (4, 5)}, {"transB": 1}), "6 and 5 differ"),
    (("Gemm", (3, 6), {"w": (6, 4), "b": (5,)}, {}), "'b' of shape [5] cannot be added to a product of 4 columns"),
    (("MatMul", SEQUENCE, {"w": (5, 4)}, {}), "6 and 5 differ"),
    (("BatchNormalization", IMAGE, dict.fromkeys("sbmv", (5,)), {}), "'s' of shape [5] should have 6"),
    (("BatchNormalization", IMAGE, {"s": (6,), "b": (6,), "m": (5,), "v": (6,)}, {}), "'m' of shape [5] should have 6"),
    (("InstanceNormalization", IMAGE, {"s": (6,), "b": (5,)}, {}), "'b' of shape [5] should have 6"),
    (("GroupNormalization", IMAGE, {"s": (5,), "b": (5,)}, {"num_groups": 3}), "'s' of shape [5] should have 6"),
    (("LayerNormalization", SEQUENCE, {"s": (5,)}, {}), "'s' of shape [5] should be of shape [6]"),
    (("LayerNormalization", SEQUENCE, {"s": (6,), "b": (4,)}, {}), "'b' of shape [4] should be of shape [6]"),
    (("PRelu", IMAGE, {"a": (5, 1, 1)}, {}), "slopes 'a' of shape [5, 1, 1] cannot be broadcast"),
    (("LSTM", SEQUENCE, {"w": (1, 16, 5), "r": (1, 16, 4)}, {"hidden_size": 4}), "take 5 features"),
    (("LSTM", SEQUENCE, {"w": (1, 16, 6), "r": (1, 16, 3)}, {"hidden_size": 4}), "should have 12 rows"),
    (("GRU", SEQUENCE, {"w": (1, 12, 6), "r": (1, 12, 4), "b": (1, 12)}, {"hidden_size": 4}), "should be 24"),
    (("RNN", SEQUENCE, {"w": (1, 5, 6), "r": (1, 4, 4)}, {"hidden_size": 4}), "should have 4 rows"),
    (("Add", IMAGE, {"t": (5, 1, 1)}, {}), "cannot be broadcast"),
]
POSSIBLE: list[Case] = [
    ("Conv", ("N", 6, "H", "W"), {"w": (4, 3, 3, 3), "b": (4,)}, {"group": 2}),
    ("Conv", ("N", "C", 8, 8), {"w": (4, 4, 3, 3), "b": (4,)}, {}),
    ("Conv", (2, 6, 8), {"w": (4, 6, 3)}, {}),
    ("ConvTranspose", IMAGE, {"w": (6, 4, 3, 3), "b": (8,)}, {"group": 2}),
    ("Gemm", (3, 6), {"w": (4, 6), "b": (1,)}, {"transB": 1}),
    ("Gemm", (6, 3), {"w": (6, 4), "b": (3, 1)}, {"transA": 1}),
    ("MatMul", ("T", "N", "F"), {"w": (4, 5)}, {}),
    ("MatMul", SEQUENCE, {"w": (6,)}, {}),
    ("BatchNormalization", ("N", 6), dict.fromkeys("sbmv", (6,)), {}),
    ("GroupNormalization", IMAGE, {"s": (6,), "b": (6,)}, {"num_groups": 3}),
    ("LayerNormalization", SEQUENCE, {"s": (2, 6), "b": (6,)}, {"axis": 1}),
    ("LayerNormalization", SEQUENCE, {"s": (1,)}, {}),
    ("PRelu", IMAGE, {"a": (1,)}, {}),
    ("PRelu", IMAGE, {"a": (6, 8, 8)}, {}),
    ("LSTM", SEQUENCE, {"w": (1, 16, 6), "r": (1, 16, 4), "b": (1, 32)}, {"hidden_size": 4}),
    ("GRU", ("T", 2, 6), {"w": (2, 12, 6), "r": (2, 12, 4)}, {"hidden_size": 4, "direction": "bidirectional"}),
    ("Mul", IMAGE, {"t": (2, 1, 1, 1)}, {}),
    ("Add", (1, 8), {"t": (3, 1, 8)}, {}),
]


@pytest.mark.parametrize(("case", "told"), IMPOSSIBLE)
def test_impossible_shapes(case: Case, told: str) -> None:
    op, shape, weights, attributes = case
    proto = single(op, shape, weights, **attributes)
    assert not runs(proto)
    for call in (onnx_ghn.predict, inspect_model):
        with pytest.raises(GraphError) as caught:
            call(proto)
        assert str(caught.value).startswith(f"{op} node 'part/layer': ")
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", POSSIBLE)
def test_possible_shapes(case: Case) -> None:
    op, shape, weights, attributes = case
    proto = single(op, shape, weights, **attributes)
    assert runs(proto)
    inspect_model(proto, policy="all")


def test_shapes_through_constants_and_reshapes(tmp_path: Path) -> None:
    """A reshape by a stored shape, weights in Constant nodes and in lost external data: the sizes are known."""
    for width, fits in ((12, True), (13, False)):
        nodes = [
            helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(np.ones((width, 3), np.float32))),
            helper.make_node("Reshape", ["x", "shape"], ["h"]),
            helper.make_node("MatMul", ["h", "w"], ["m"], name="head"),
            helper.make_node("Add", ["m", "b"], ["y"]),
        ]
        tensors = [
            numpy_helper.from_array(np.array([0, -1]), "shape"),
            numpy_helper.from_array(np.ones(3, np.float32), "b"),
        ]
        x, y = helper.make_tensor_value_info("x", 1, [2, 3, 4]), helper.make_tensor_value_info("y", 1, None)
        model = helper.make_model(
            helper.make_graph(nodes, "g", [x], [y], tensors), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
        )
        onnx.save(
            model, tmp_path / f"{width}.onnx", save_as_external_data=True, location=f"{width}.data", size_threshold=100,
            convert_attribute=True,
        )  # fmt: skip
        (tmp_path / f"{width}.data").unlink()
        if fits:
            inspect_model(tmp_path / f"{width}.onnx", policy="all")
            continue
        with pytest.raises(GraphError, match=r"MatMul node 'head': .*12 and 13 differ"):
            inspect_model(tmp_path / f"{width}.onnx", policy="all")


def test_old_broadcasting_is_accepted() -> None:
    """Before opset 7 an Add named the axis that a vector belongs to."""
    inspect_model(single("Add", IMAGE, {"t": (6,)}, opset=6, axis=1, broadcast=1), policy="all")


def test_examples_are_accepted() -> None:
    for path in sorted((Path(__file__).parents[2] / "data" / "examples").glob("*.onnx")):
        inspect_model(path, policy="all")


def test_shapes_that_the_file_states_wrongly_are_left_aside() -> None:
    proto = single("Conv", IMAGE, {"w": (4, 6, 3, 3)})
    proto.graph.value_info.append(helper.make_tensor_value_info("h", 1, [2, 7, 8, 8]))
    inspect_model(proto, policy="all")
