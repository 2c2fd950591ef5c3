"""How many numbers an integer input may be, read from the tables that it numbers."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.onnx_io.indexed_tables import input_rows

INT64, FLOAT = TensorProto.INT64, TensorProto.FLOAT


def model(nodes: list[onnx.NodeProto], inputs: list[str], tables: dict[str, tuple[int, ...]]) -> ir.Model:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, INT64, ["batch", 4]) for name in inputs],
        [helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)],
        [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in tables.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def gather(table: str, indices: str, output: str, **attributes: int) -> onnx.NodeProto:
    return helper.make_node("Gather", [table, indices], [output], **attributes)


def test_tokens_number_the_rows_of_their_table() -> None:
    nodes = [
        helper.make_node("Cast", ["tokens"], ["as32"], to=TensorProto.INT32),
        gather("words", "as32", "a"),
        gather("kinds", "segments", "b"),
        helper.make_node("Cast", ["mask"], ["c"], to=FLOAT),
        helper.make_node("Sum", ["a", "b"], ["y"]),
    ]
    found = input_rows(model(nodes, ["tokens", "segments", "mask"], {"words": (97, 8), "kinds": (2, 8)}))
    assert found == {"tokens": 97, "segments": 2}


def test_the_smallest_table_and_the_right_axis_count() -> None:
    nodes = [
        gather("wide", "tokens", "a", axis=1),
        gather("long", "tokens", "b"),
        helper.make_node("Sum", ["a", "b"], ["y"]),
    ]
    assert input_rows(model(nodes, ["tokens"], {"wide": (5, 30), "long": (40, 3)})) == {"tokens": 30}


def test_tables_that_are_cast_or_dequantised_count() -> None:
    nodes = [
        helper.make_node("Cast", ["words"], ["half"], to=TensorProto.FLOAT16),
        gather("half", "tokens", "y"),
    ]
    assert input_rows(model(nodes, ["tokens"], {"words": (11, 2)})) == {"tokens": 11}
