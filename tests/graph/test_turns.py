"""Tensors of which each turn of a loop takes its piece have the roles of what reads the piece."""

import pytest
from onnx import parser

from onnx_ghn.graph import build_graph

_LOOP = """
< ir_version: 9, opset_import: ["" : 18] >
stacked (float[1, 8] x) => (float[1, 8] y)
< float[3, 8, 8] kernel = {%s}, float[3, 8] bias = {%s}, float[3, 8] scale = {%s}, int64 turns = {3}, bool on = {1} >
{
  y = Loop (turns, on, x) < body = turn (int64 number, bool on_in, float[1, 8] h) => (bool on_out, float[1, 8] h_next) {
    k = Gather (kernel, number)
    b = Gather (bias, number)
    s = Gather (scale, number)
    normed = LayerNormalization (h, s)
    wide = MatMul (normed, k)
    h_next = Add (wide, b)
    on_out = Identity (on_in)
  } >
}
"""


_SCAN = """
< ir_version: 9, opset_import: ["" : 18] >
stacked (float[1, 8] x) => (float[1, 8] y)
< float[3, 8, 8] kernel = {%s}, float[3, 8] bias = {%s}, float[3, 8] scale = {%s} >
{
  y = Scan <num_scan_inputs = 3, body = turn (float[1, 8] h, float[8, 8] k, float[8] b, float[8] s)
      => (float[1, 8] h_next) {
    normed = LayerNormalization (h, s)
    wide = MatMul (normed, k)
    h_next = Add (wide, b)
  }> (x, kernel, bias, scale)
}
"""


def _numbers(count: int) -> str:
    return ", ".join(str(0.01 * (1 + number % 7)) for number in range(count))


@pytest.mark.parametrize("text", [_LOOP, _SCAN], ids=["Loop", "Scan"])
def test_stacked_layers_are_no_tables(text: str) -> None:
    model = parser.parse_model(text % (_numbers(192), _numbers(24), _numbers(24)))
    roles = {parameter.name: parameter.role for parameter in build_graph(model).parameters}
    assert roles == {"kernel": "weight", "bias": "bias", "scale": "norm_scale"}
