"""Which inputs a model's outputs depend on, through the bodies of control flow as well."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from onnx_ghn.onnx_io.inputs_read import data_inputs, inputs_read

MODELS = {
    "unread": ("agraph (float[2] a, float[2] b) => (float[2] y) { c = Relu(b) y = Relu(a) }", ["a"]),
    "none": ("agraph (float[2] a) => (float[2] y) <float[2] w = {1, 2}> { y = Relu(w) }", []),
    "shape": ("agraph (float[N] a) => (int64[1] y) { y = Shape(a) }", ["a"]),
    "captured": (
        """agraph (bool c, float[2] a, float[2] b) => (float[2] y) {
            y = If (c) <then_branch = t () => (float[2] u) { u = Relu(a) }, else_branch = e () => (float[2] v)
            { v = If (c) <then_branch = t2 () => (float[2] p) { p = Identity(a) }, else_branch = e2 () => (float[2] q)
            { q = Neg(a) }> }> }""",
        ["c", "a"],
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_inputs_read(kind: str) -> None:
    text, expected = MODELS[kind]
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]> {text}')
    model = ir.from_proto(proto)
    assert inputs_read(model) == expected
    assert set(data_inputs(model)) == {value.name for value in proto.graph.input}
