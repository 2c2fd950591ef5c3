"""Which donors look as if nobody had trained them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.inheritance.donor import open_donor


def _behind_a_power_transformation() -> onnx.ModelProto:
    """As skl2onnx writes scikit-learn's PowerTransformer before a perceptron: products with zeros and ones."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("Mul", ["r", "ones"], ["a"]),
        helper.make_node("Mul", ["n", "zeros"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("MatMul", ["c", "w1"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("MatMul", ["t", "w2"], ["y"]),
    ]
    stored = {"ones": np.ones(8), "zeros": np.zeros(8), "w1": rng.random((8, 12)), "w2": rng.random((12, 3))}
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, size]) for n, size in (("x", 8), ("y", 3))]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_products_with_zeros_and_ones_are_no_norms_that_nobody_trained() -> None:
    donor = open_donor(_behind_a_power_transformation())
    assert {"w1", "w2"} <= {parameter.name for parameter in donor.graph.parameters}
