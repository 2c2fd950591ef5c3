"""A model without anything to predict is told why, each kind in its own words."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from predict_models import tiny_ghn

from onnx_ghn import predict
from onnx_ghn.errors import GraphError
from onnx_ghn.onnx_io.marks import mark

TREE = {
    "n_targets": 1,
    "nodes_treeids": [0, 0, 0],
    "nodes_nodeids": [0, 1, 2],
    "nodes_featureids": [0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_values": [0.5, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0],
    "target_treeids": [0, 0],
    "target_nodeids": [1, 2],
    "target_ids": [0, 0],
    "target_weights": [-1.0, 1.0],
}


def _info(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(nodes, inputs, outputs, initializers=()) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _machine(op_type: str, **attributes: object) -> onnx.ModelProto:
    node = helper.make_node(op_type, ["x"], ["y"], domain="ai.onnx.ml", name="it", **attributes)
    graph = helper.make_graph([node], "g", [_info("x", 1, 2)], [_info("y", 1, 1)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@pytest.mark.parametrize(
    "proto",
    [_machine("TreeEnsembleRegressor", **TREE), _machine("LinearRegressor", coefficients=[1.0, 2.0], targets=1)],
    ids=["trees", "linear"],
)
def test_what_was_learned_is_in_attributes(proto: onnx.ModelProto) -> None:
    onnx.checker.check_model(proto, full_check=True)
    operator = proto.graph.node[0].op_type
    with pytest.raises(GraphError, match=rf"what {operator} \(node 'it'\) learned is in its attributes"):
        predict(proto, ghn=tiny_ghn())


@pytest.mark.parametrize(
    ("names", "words"),
    [(["w1"], "its only parameter is frozen, first 'w1'"), (["w1", "w2"], "all of its 2 parameters are frozen")],
)
def test_all_is_frozen(names: list[str], words: str) -> None:
    nodes = [
        helper.make_node("MatMul", ["x" if i == 0 else f"h{i - 1}", name], [f"h{i}"]) for i, name in enumerate(names)
    ]
    proto = _model(
        nodes,
        [_info("x", 1, 64)],
        [_info(f"h{len(names) - 1}", 1, 64)],
        [numpy_helper.from_array(np.eye(64, dtype=np.float32), n) for n in names],
    )
    model = ir.serde.deserialize_model(proto)
    mark(model, "", dict.fromkeys(names))
    with pytest.raises(GraphError, match=words):
        predict(model, ghn=tiny_ghn())


def test_weights_that_the_file_lacks() -> None:
    """As in the training_model.onnx of onnxruntime's artifacts, whose weights are in a checkpoint beside it."""
    proto = _model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [_info("x", 1, 8), _info("w", 8, 8)], [_info("y", 1, 8)]
    )
    with pytest.raises(GraphError, match="no trainable tensors: its weights are inputs, first 'w'"):
        predict(proto, ghn=tiny_ghn())
