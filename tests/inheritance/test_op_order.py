"""Operators stand in one order, however a file lists them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
from onnx import numpy_helper

from onnx_ghn import predict
from onnx_ghn.graph.builder import read_graph
from onnx_ghn.inheritance.op_order import from_outputs
from onnx_ghn.passes import open_model

_TEXT = """
<ir_version: 9, opset_import: ["" : 20]>
g (float[2,4] x, float[2,4] z) => (float[2,4] y) {{ {} }}
"""
_LAYERS = 3


def _lines(branch: str, start: str) -> list[str]:
    """Layers with a skip around each."""
    lines, value = [], start
    for i in range(_LAYERS):
        name = f"{branch}{i}"
        lines += [f"{name}h = MatMul({value}, {name}w)", f"{name}r = Tanh({name}h)", f"{name} = Add({value}, {name}r)"]
        value = name
    return lines


def _model(lines: list[str]) -> onnx.ModelProto:
    model = onnx.parser.parse_model(_TEXT.format(" ".join(lines)))
    generator = np.random.default_rng(0)
    for name in (f"{branch}{i}w" for branch in "ed" for i in range(_LAYERS)):
        array = generator.standard_normal((4, 4)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def _sorted_otherwise() -> list[onnx.ModelProto]:
    encoder, decoder = _lines("e", "x"), _lines("d", "z")
    last = [f"s = Add(d{_LAYERS - 1}, e{_LAYERS - 1})", "y = Neg(s)"]
    mixed = [line for pair in zip(encoder, decoder, strict=True) for line in pair]
    return [_model([*lines, *last]) for lines in ([*encoder, *decoder], [*decoder, *encoder], mixed)]


def test_operators_stand_in_one_order() -> None:
    orders = []
    for model in _sorted_otherwise():
        opened = open_model(model)
        _, flat = read_graph(opened.model, opened.stored, "onnx")
        orders.append([op.outputs[0].name for op in from_outputs(flat)])
        read = {name: i for i, name in enumerate(orders[-1])}
        assert all(read[t.name] < i for i, op in enumerate(from_outputs(flat)) for t in op.inputs if t and t.producer)
    assert orders[0] == orders[1] == orders[2]
    assert orders[0][0].startswith("d")


def test_a_file_whose_nodes_are_sorted_otherwise_gives_each_tensor_to_its_own(tmp_path: Path) -> None:
    """onnxslim mixes T5's encoder with its decoder: blocks were aligned along the list of nodes, and some left out."""
    donor, *others = _sorted_otherwise()
    onnx.save(donor, tmp_path / "donor.onnx")
    for recipient in others:
        for tensor in recipient.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros((4, 4), np.float32), tensor.name))
        prediction = predict(recipient, donors=[tmp_path / "donor.onnx"])
        for tensor in donor.graph.initializer:
            np.testing.assert_array_equal(prediction[tensor.name], numpy_helper.to_array(tensor))
