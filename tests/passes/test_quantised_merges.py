"""Quantised biases and zero points that a tool merged are told apart; weights that are read twice stay one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from predict_models import tiny_ghn

from onnx_ghn import build_graph, predict
from onnx_ghn.onnx_io import read_model
from onnx_ghn.passes.quantised_merges import SeparateQuantised

_SCALES = {
    f"{of}{n}": np.full(4, step * n, np.float32) for of, step in (("w_scale", 0.01), ("s", 1e-5)) for n in (1, 2)
}


def quantised(*, bias: np.ndarray, scale_of_second: str = "s2") -> onnx.ModelProto:
    """Two quantised convolutions, as tf2onnx writes a fresh network of TensorFlow Lite: one tensor is the bias of both,
    and their zero point."""
    rng = np.random.default_rng(0)
    stored = {name: rng.integers(-127, 128, (4, 4, 3, 3)).astype(np.int8) for name in ("w1", "w2")} | _SCALES
    stored |= {"shared": bias.astype(np.int32), "none": np.zeros(4, np.int8)}
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["w1", "w_scale1", "none"], ["f1"], axis=0),
            helper.make_node("DequantizeLinear", ["w2", "w_scale2", "none"], ["f2"], axis=0),
            helper.make_node("DequantizeLinear", ["shared", "s1", "shared"], ["b1"], axis=0),
            helper.make_node("DequantizeLinear", ["shared", scale_of_second, "shared"], ["b2"], axis=0),
            helper.make_node("Conv", ["x", "f1", "b1"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("Conv", ["r", "f2", "b2"], ["y"], pads=[1, 1, 1, 1]),
        ],
        "quantised",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def dequantised(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """What onnxruntime makes of the biases."""
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("b1", "b2"))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(["b1", "b2"], {"x": np.zeros((1, 4, 8, 8), np.float32)})
    return dict(zip(("b1", "b2"), found, strict=True))


def test_a_bias_that_was_its_own_zero_point_is_predicted(tmp_path: Path) -> None:
    proto = quantised(bias=np.zeros(4))
    biases = [p for p in build_graph(proto).parameters if p.shape == (4,)]
    assert [p.op for p in biases] == ["Conv", "Conv"]
    prediction = predict(proto, tmp_path / "out.onnx", ghn=tiny_ghn(), policy="all", correct_scales=False)
    written = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(written, full_check=True)
    found = dequantised(written)
    for name, bias in zip(("b1", "b2"), biases, strict=True):
        # 0 in the file of before, whatever was written
        assert np.abs(found[name]).max() > 0
        assert bias.scale_name is not None
        expected = prediction[bias.name] * prediction[bias.scale_name]
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)


def test_each_of_the_merged_has_its_own_tensor() -> None:
    model = read_model(quantised(bias=np.zeros(4)))
    changed = SeparateQuantised().call(model)
    assert changed.changes == ("b2_quantised", "b1_zero_point")
    inputs = {node.outputs[0].name: [value.name if value else "" for value in node.inputs] for node in model.graph}
    assert inputs["b1"] == ["shared", "s1", "b1_zero_point"]
    assert inputs["b2"] == ["b2_quantised", "s2", "b1_zero_point"]
    assert not SeparateQuantised().call(model).modified


def test_values_that_one_scale_reads_twice_stay_one() -> None:
    model = read_model(quantised(bias=np.arange(4), scale_of_second="s1"))
    assert SeparateQuantised().call(model).changes == ("b1_zero_point",)
    model = read_model(quantised(bias=np.arange(4)))  # no zeros: no coincidence
    assert SeparateQuantised().call(model).changes == ("b1_zero_point",)


def test_zero_points_of_several_weights_may_be_one() -> None:
    model = read_model(quantised(bias=np.zeros(4)))
    SeparateQuantised().call(model)
    assert len(model.graph.initializers["none"].uses()) == 2
