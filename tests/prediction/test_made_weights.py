"""Weights that a model makes of others: norms follow directions, factors start as their author chose."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from predict_models import tiny_ghn

from onnx_ghn import predict
from onnx_ghn.ghn import Block
from onnx_ghn.graph.builder import build_graph
from onnx_ghn.graph.layout import Layout
from onnx_ghn.prediction import making

N = helper.make_node


def _model(nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], shape: list[object]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _normalised(v: np.ndarray, g: np.ndarray, how: str) -> onnx.ModelProto:
    """A convolution by g · v / |v|, written in one of three ways."""
    axes = np.array([1, 2, 3])
    if how == "ReduceL2":
        nodes = [N("ReduceL2", ["v", "axes"], ["n"]), N("Div", ["v", "n"], ["u"]), N("Mul", ["u", "g"], ["w"])]
    elif how == "scale first":
        nodes = [N("ReduceL2", ["v", "axes"], ["n"]), N("Div", ["g", "n"], ["s"]), N("Mul", ["v", "s"], ["w"])]
    else:
        nodes = [
            N("Mul", ["v", "v"], ["q"]),
            N("ReduceSum", ["q", "axes"], ["t"]),
            N("Sqrt", ["t"], ["n"]),
            N("Div", ["v", "n"], ["u"]),
            N("Mul", ["g", "u"], ["w"]),
        ]
    return _model([*nodes, N("Conv", ["x", "w"], ["y"])], {"v": v, "g": g, "axes": axes}, ["N", 3, 8, 8])


@pytest.mark.parametrize("how", ["ReduceL2", "scale first", "squares"])
def test_the_norms_of_a_predicted_weight_are_its_own(how: str) -> None:
    v = _draw(8, 3, 3, 3)
    prediction = predict(
        _normalised(v, np.full((8, 1, 1, 1), 5, np.float32), how), ghn=tiny_ghn(), correct_scales=False
    )
    norms = np.sqrt((prediction["v"].astype(np.float64) ** 2).sum(axis=(1, 2, 3), keepdims=True))
    assert not np.allclose(prediction["v"], v)
    np.testing.assert_allclose(prediction["g"], norms, rtol=1e-6)
    reasons = {entry.parameter.name: (entry.outcome, entry.reason) for entry in prediction.coverage.entries}
    assert reasons["g"] == ("predicted", "the norms of v")


def test_the_norms_of_a_weight_that_stays_stay() -> None:
    model = _normalised(_draw(8, 3, 3, 3), np.full((8, 1, 1, 1), 5, np.float32), "ReduceL2")
    coverage = predict(model, ghn=tiny_ghn(), exclude=["^v$"], calibrate="none").coverage
    assert {entry.parameter.name: entry.outcome for entry in coverage.entries} == {"v": "kept", "g": "kept"}


def test_weight_standardisation_has_a_gain_and_no_norms() -> None:
    nodes = [
        N("ReduceMean", ["v", "axes"], ["m"]),
        N("Sub", ["v", "m"], ["c"]),
        N("Mul", ["c", "c"], ["q"]),
        N("ReduceMean", ["q", "axes"], ["s"]),
        N("Sqrt", ["s"], ["n"]),
        N("Div", ["c", "n"], ["u"]),
        N("Mul", ["u", "g"], ["w"]),
        N("Conv", ["x", "w"], ["y"]),
    ]
    tensors = {"v": _draw(8, 3, 3, 3), "g": _draw(8, 1, 1, 1, seed=1), "axes": np.array([1, 2, 3])}
    prediction = predict(_model(nodes, tensors, ["N", 3, 8, 8]), ghn=tiny_ghn(), correct_scales=False)
    assert (prediction["g"] == 1).all()


@pytest.mark.parametrize(
    ("nodes", "kept"),
    [
        ([N("MatMul", ["b", "a"], ["d"]), N("Add", ["w", "d"], ["s"]), N("MatMul", ["x", "s"], ["y"])], {"a", "b"}),
        ([N("MatMul", ["b", "a"], ["s"]), N("MatMul", ["x", "s"], ["y"])], {"a", "b"}),
        ([N("Gemm", ["b", "a", "w"], ["s"]), N("MatMul", ["x", "s"], ["y"])], {"a", "b"}),
    ],
)
def test_factors_of_a_weight_keep_their_values(nodes: list[onnx.NodeProto], kept: set[str]) -> None:
    tensors = {"a": _draw(4, 16), "b": _draw(24, 4, seed=1), "w": _draw(24, 16, seed=2)}
    used = {name for node in nodes for name in node.input}
    model = _model(nodes, {name: array for name, array in tensors.items() if name in used}, ["N", 24])
    coverage = predict(model, ghn=tiny_ghn(), calibrate="none").coverage
    outcomes = {entry.parameter.name: entry.outcome for entry in coverage.entries}
    assert {name for name, outcome in outcomes.items() if outcome == "kept"} == kept
    assert set(outcomes) == used - {"x", "d", "s"}


@pytest.mark.parametrize("axes", [-1, 1])
@pytest.mark.parametrize("shape", [(6,), (1, 6)])
def test_a_vector_dotted_with_data_is_a_weight(axes: int, shape: tuple[int, ...]) -> None:
    nodes = [
        N("MatMul", ["x", "w"], ["a"]),
        N("Mul", ["a", "v"], ["p"]),
        N("ReduceSum", ["p", "axes"], ["y"]),
    ]
    tensors = {"w": _draw(4, 6), "v": _draw(*shape, seed=1), "axes": np.array([axes])}
    model = onnx.shape_inference.infer_shapes(_model(nodes, tensors, ["N", 4]))
    parameter = next(p for p in build_graph(model).parameters if p.name == "v")
    assert (parameter.role.value, parameter.layout.canonical) == ("weight", (1, 6))


@pytest.mark.parametrize("decoded", [(4, 3), (4, 3, 1, 1)])
def test_a_repeated_matrix_is_laid_out_as_the_file_has_it(decoded: tuple[int, ...]) -> None:
    """No transposed gigabyte is put in order piece by piece."""
    layout = Layout((7, 10)).transpose((1, 0))
    block = Block(_draw(*decoded), (10, 7, 1, 1)[: len(decoded)], (10, 7))
    found = making._as_stored(block, SimpleNamespace(layout=layout))
    np.testing.assert_array_equal(found, layout.from_canonical(block.array()))
    assert found.flags.c_contiguous
