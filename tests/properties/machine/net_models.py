"""Models of a few nodes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

__all__ = ["embedding_and_product", "nothing", "of_values", "sequence", "two_layers"]


def _model(nodes: list, inputs: list, outputs: list, stored: list) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return data


def _stored(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(np.full(shape, 0.01, np.float32), name)


def embedding_and_product(rows: int, width: int, outputs: int) -> bytes:
    """Rows of a table, times a matrix."""
    return _model(
        [helper.make_node("Gather", ["t", "ids"], ["e"]), helper.make_node("MatMul", ["e", "w"], ["y"])],
        [helper.make_tensor_value_info("ids", TensorProto.INT64, (1, 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4, outputs))],
        [_stored("t", rows, width), _stored("w", width, outputs)],
    )


def two_layers(batch: int | str = 1) -> bytes:
    """64 to 128 to 10, with a Relu between."""
    return _model(
        [
            helper.make_node("MatMul", ["x", "w1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "w2"], ["y"]),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (batch, 64))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (batch, 10))],
        [_stored("w1", 64, 128), _stored("w2", 128, 10)],
    )


def of_values() -> bytes:
    """What NonZero finds decides the size of the output."""
    return _model(
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("NonZero", ["r"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (4, 64))],
        [helper.make_tensor_value_info("y", TensorProto.INT64, (2, None))],
        [],
    )


def nothing() -> bytes:
    """Gives what it is given."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (4, 64))
    return _model([], [x], [x], [])


def sequence() -> bytes:
    """A matrix over a sequence whose length is free."""
    return _model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, "length", 64))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, "length", 16))],
        [_stored("w", 64, 16)],
    )
