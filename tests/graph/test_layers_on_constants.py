"""Layers that compute on constants alone, before data come: what they store has the role that it has anywhere."""

from __future__ import annotations

import numpy as np
import onnx.parser
from onnx import numpy_helper

from onnx_ghn.graph import build_graph

WIDTH, LENGTH = 8, 5

_TEXT = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[2,5,8] x) => (float[2,5,8] y) {
    n = LayerNormalization(table, gain, shift)
    %s
    turned = Transpose<perm=[0, 2, 1]>(keys)
    q = MatMul(x, wq)
    s = MatMul(q, turned)
    p = Softmax(s)
    y = MatMul(p, x)
}
"""
_LAYERS = {
    "matmul": "k = MatMul(n, wk) keys = Add(k, bias)",
    "bias first": "k = MatMul(n, wk) keys = Add(bias, k)",
    "gemm": "flat = Squeeze(n, axis) k = Gemm(flat, wk, bias) keys = Unsqueeze(k, axis)",
}


def _model(layer: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(_TEXT % _LAYERS[layer])
    generator = np.random.default_rng(0)
    shapes = {"table": (1, LENGTH, WIDTH), "wk": (WIDTH, WIDTH), "wq": (WIDTH, WIDTH)}
    shapes |= dict.fromkeys(("gain", "shift", "bias"), (WIDTH,))
    arrays = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    stored = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model.graph.initializer.extend([*stored, numpy_helper.from_array(np.array([0]), "axis")])
    return model


def test_the_bias_of_a_layer_on_constants_is_one() -> None:
    """DeBERTa computes keys of its table of distances: the bias was called the scale of a norm, and drawn as ones."""
    for layer in _LAYERS:
        roles = {parameter.name: parameter.role for parameter in build_graph(_model(layer)).parameters}
        assert roles["bias"] == "bias", layer
        assert (roles["gain"], roles["shift"]) == ("norm_scale", "norm_bias")
        assert roles["wk"] == roles["wq"] == "weight"
