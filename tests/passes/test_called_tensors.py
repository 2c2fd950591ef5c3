"""Weights that lie in the attributes of calls are found, and what the model computes stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, helper, numpy_helper

import onnx_ghn
from onnx_ghn.graph import build_graph
from onnx_ghn.passes import open_model

_RNG = np.random.default_rng(0)
_WEIGHTS = [_RNG.standard_normal(shape).astype(np.float32) for shape in ((4, 6), (6, 6))]
_BIASES = [_RNG.standard_normal(6).astype(np.float32) for _ in range(2)]
_X = _RNG.standard_normal((3, 4)).astype(np.float32)
_Y = (_X @ _WEIGHTS[0] + _BIASES[0]) @ _WEIGHTS[1] + _BIASES[1]
_OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]


def _handed_on(node: NodeProto, **attributes: str) -> NodeProto:
    """With attributes that are those of the function around it."""
    for name, of_function in attributes.items():
        node.attribute.append(AttributeProto(name=name, ref_attr_name=of_function, type=AttributeProto.TENSOR))
    return node


def _dense(bias_default: bool = False) -> FunctionProto:
    nodes = [_handed_on(helper.make_node("Constant", [], [name]), value=name) for name in ("weight", "bias")]
    nodes += [helper.make_node("MatMul", ["x", "weight"], ["h"]), helper.make_node("Add", ["h", "bias"], ["y"])]
    default = [helper.make_attribute("bias", numpy_helper.from_array(_BIASES[0]))]
    names, defaults = (["weight"], default) if bias_default else (["weight", "bias"], [])
    return helper.make_function("own", "Dense", ["x"], ["y"], nodes, _OPSETS[:1], names, defaults)


def _outer() -> FunctionProto:
    inner = _handed_on(helper.make_node("Dense", ["x"], ["y"], name="inner", domain="own"), weight="w", bias="b")
    return helper.make_function("own", "Outer", ["x"], ["y"], [inner], _OPSETS, ["w", "b"])


def _call(number: int, given: str, names: tuple[str, ...] = ("weight", "bias"), kind: str = "Dense") -> NodeProto:
    tensors = (numpy_helper.from_array(array[number]) for array in (_WEIGHTS, _BIASES))
    attributes = dict(zip(names, tensors, strict=False))
    return helper.make_node(kind, [given], [f"y{number}"], name=f"layer{number}", domain="own", **attributes)


def _model(nodes: list[NodeProto], *functions: FunctionProto) -> ModelProto:
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 4])]
    outputs = [helper.make_tensor_value_info("y1", onnx.TensorProto.FLOAT, [None, 6])]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(graph, functions=functions, opset_imports=_OPSETS, ir_version=9)
    onnx.checker.check_model(model)
    return model


def _in_branch() -> ModelProto:
    """The second call stands in both branches of an If: two layers, of which one runs."""
    branches = []
    for name in ("then", "else"):
        node = _call(1, "y0")
        node.output[:] = [name]
        branches.append(helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, 1, [None, 6])]))
    condition = helper.make_node("Constant", [], ["is"], value=numpy_helper.from_array(np.array(True)))
    branch = helper.make_node("If", ["is"], ["y1"], name="if", then_branch=branches[0], else_branch=branches[1])
    return _model([_call(0, "x"), condition, branch], _dense())


_CALLS = [_call(0, "x"), _call(1, "y0")]
_OUTER_CALLS = [_call(0, "x", ("w", "b"), "Outer"), _call(1, "y0", ("w", "b"), "Outer")]


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (_model(_CALLS, _dense()), {"layer0/weight", "layer0/bias", "layer1/weight", "layer1/bias"}),
        (_model(_OUTER_CALLS, _outer(), _dense()), {"layer0/w", "layer0/b", "layer1/w", "layer1/b"}),
        (
            _in_branch(),
            {f"layer0/{kind}" for kind in ("weight", "bias")}
            | {f"layer1/{kind}{again}" for kind in ("weight", "bias") for again in ("", "_2")},
        ),
    ],
    ids=["plain", "handed on", "in branches"],
)
def test_each_call_has_its_own_weights(model: ModelProto, names: set[str]) -> None:
    opened = open_model(model)
    graph = build_graph(model)
    assert {p.name for p in graph.parameters} == names
    written = ir.to_proto(opened.model)
    onnx.checker.check_model(written)
    session = ort.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": _X})[0], _Y, rtol=1e-5, atol=1e-5)


def test_a_default_is_one_tensor_unless_a_call_replaces_it() -> None:
    bare = [_call(0, "x", ("weight",)), _call(1, "y0", ("weight",))]
    shared = build_graph(_model(bare, _dense(bias_default=True)))
    assert {p.name for p in shared.parameters} == {"layer0/weight", "layer1/weight", "own::Dense/bias"}
    mixed = _model([bare[0], _call(1, "y0")], _dense(bias_default=True))
    opened = open_model(mixed)
    assert {p.name for p in build_graph(mixed).parameters} == {
        f"layer{i}/{kind}" for i in range(2) for kind in ("weight", "bias")
    }
    session = ort.InferenceSession(ir.to_proto(opened.model).SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": _X})[0], _Y, rtol=1e-5, atol=1e-5)


def test_strip_leaves_no_value_of_a_call(tmp_path: Path) -> None:
    path, bare = tmp_path / "calls.onnx", tmp_path / "bare.onnx"
    onnx.save(_model(_CALLS, _dense()), path)
    onnx_ghn.strip(path, bare)
    assert all(array.tobytes() not in bare.read_bytes() for array in (*_WEIGHTS, *_BIASES))
    filled = onnx_ghn.predict(bare, donors=[path])
    filled.save(tmp_path / "filled.onnx")
    session = ort.InferenceSession(tmp_path / "filled.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": _X})[0], _Y, rtol=1e-5, atol=1e-5)


def test_a_model_that_is_given_stays_as_it_is() -> None:
    model = ir.from_proto(_model(_CALLS, _dense()))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert len(open_model(model).stored) == 4
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
