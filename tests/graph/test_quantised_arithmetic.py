"""Quantised layers that a framework writes as arithmetic: what belongs to their integers is no weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_models import Net, parameters, run

import onnx_ghn
from onnx_ghn.graph import build_graph
from onnx_ghn.onnx_io import stored_tensors

X = np.random.default_rng(0).standard_normal((2, 6), dtype=np.float32)


def int8_layer(*, by_integers: bool) -> tuple[onnx.ModelProto, np.ndarray]:
    """A linear layer as Keras quantises it to int8: the scale of the data is found while it runs. And its output.

    Args:
        by_integers: sums by MatMulInteger (on TensorFlow), or by MatMul of integers (on JAX).
    """
    net = Net(opset=13)
    weight = net.rng.integers(-127, 128, (6, 8), dtype=np.int8)
    scale = net.rng.uniform(400, 900, 8).astype(np.float32)
    x = net.input(None, 6)
    largest = net.op("ReduceMax", net.op("Abs", x), axes=[-1], keepdims=1)
    data_scale = net.op("Div", net.number(127), largest)
    both = net.op("Mul", data_scale, net.weight(name="scale", array=scale))
    whole = net.op("Cast", net.op("Round", net.op("Mul", x, data_scale)), to=onnx.TensorProto.INT8)
    w = net.weight(array=weight)
    if by_integers:
        sums = net.op("MatMulInteger", whole, w)
    else:
        sums = net.op("MatMul", *(net.op("Cast", given, to=onnx.TensorProto.INT32) for given in (whole, w)))
    found = net.op("Div", net.op("Cast", sums, to=onnx.TensorProto.FLOAT), both)
    model = net.model(net.op("Add", found, net.weight(8, name="b")))
    scale_of_data = 127 / np.abs(X).max(-1, keepdims=True)
    bias = onnx.numpy_helper.to_array(model.graph.initializer[-1])
    return model, np.round(X * scale_of_data) @ weight.astype(np.float32) / (scale_of_data * scale) + bias


@pytest.mark.parametrize("by_integers", [True, False])
def test_scales_of_integers_are_kept(by_integers: bool) -> None:
    model, expected = int8_layer(by_integers=by_integers)
    (before,) = run(model, x=X)
    np.testing.assert_allclose(before, expected, rtol=1e-4, atol=1e-4)
    rows = parameters(build_graph(model))
    assert {name: row.role.value for name, row in rows.items()} == {"w": "other", "scale": "other", "b": "bias"}
    stored = stored_tensors(onnx_ghn.predict(model, policy="all").model)
    assert not np.array_equal(stored["b"].numpy(), onnx.numpy_helper.to_array(model.graph.initializer[-1]))
    for name in ("w", "scale"):
        kept = next(t for t in model.graph.initializer if t.name == name)
        np.testing.assert_array_equal(stored[name].numpy(), onnx.numpy_helper.to_array(kept))


def test_a_scale_of_data_is_a_scale() -> None:
    """A mask of whole numbers behind it does not make it one of integers."""
    net = Net()
    h = net.linear(net.input(None, 6), 6, 8, "w")
    gain = net.op("Mul", net.op("Relu", h), net.weight(name="gain", array=np.ones(8, np.float32)))
    mask = net.op("Cast", net.input(None, 8, name="mask", kind=onnx.TensorProto.INT32), to=onnx.TensorProto.FLOAT)
    rows = parameters(build_graph(net.model(net.op("Mul", gain, mask))))
    assert rows["gain"].role.value == "norm_scale"


def test_halves_of_bytes_are_one_weight_with_their_scale() -> None:
    """Keras's int4 on JAX: two numbers a byte, unpacked, moved by a zero point and scaled for each output."""
    net = Net(opset=20)
    packed = net.weight(name="packed", array=net.rng.integers(-128, 128, (6, 4), dtype=np.int8))
    low = net.op("BitwiseAnd", packed, net.number(15, np.int8))
    high = net.op("BitwiseXor", low, net.number(8, np.int8))
    axis = net.number([2], np.int64)
    pairs = net.op("Concat", *(net.op("Unsqueeze", half, axis) for half in (low, high)), axis=2)
    whole = net.op("Cast", net.op("Reshape", pairs, net.number([6, 8], np.int64)), to=onnx.TensorProto.FLOAT)
    groups = net.number([0, 0, 0, 0, 0, 0], np.int64)
    scale = net.op("Gather", net.weight(1, 8, name="scale"), groups)
    y = net.op("MatMul", net.input(None, 6), net.op("Mul", whole, scale))
    rows = parameters(build_graph(net.model(y)))
    assert {name: row.role.value for name, row in rows.items()} == {"packed": "other", "scale": "other"}
    assert "quantised weights" in rows["packed"].reason
    assert "belongs to quantised weights" in rows["scale"].reason


@pytest.mark.parametrize("policy", ["auto", "early"])
def test_what_a_quantised_file_has_learned_stays(policy: str) -> None:
    """Its biases and norms are floats beside weights that are integers: a file with weights, not one without."""
    model, _ = int8_layer(by_integers=True)
    found = onnx_ghn.predict(model, policy=policy)
    stored = stored_tensors(found.model)
    for tensor in model.graph.initializer:
        np.testing.assert_array_equal(stored[tensor.name].numpy(), onnx.numpy_helper.to_array(tensor))
    assert found.coverage.count("fallback") == 0


def test_strip_takes_integers_whatever_reads_them(tmp_path: Path) -> None:
    """Rows of a table, and an operator of one runtime's."""
    net = Net()
    rows = net.op(
        "Gather",
        net.weight(name="table", array=net.rng.integers(-127, 128, (20, 6), dtype=np.int8)),
        net.input("N", name="i", kind=onnx.TensorProto.INT64),
    )
    x = net.op("DequantizeLinear", rows, net.number(0.02), net.number(0, np.int8))
    kernels = [net.weight(name=n, array=net.rng.integers(-127, 128, (1, 6, 32), dtype=np.int8)) for n in ("w", "r")]
    settings = [net.number([0.01]), net.number([0], np.int8), net.number([0.01]), net.number([0], np.int8)]
    series = net.op("Unsqueeze", x, net.number([1], np.int64))
    state = net.op(
        "Slice", net.weight(name="r_float", array=net.array(8, 6)), *(net.number([n], np.int64) for n in (0, 6))
    )
    y = net.op("MatMul", series, state)
    z = net.op("DynamicQuantizeLSTM", y, *kernels, "", "", "", "", "", *settings, domain="com.microsoft", hidden_size=8)
    source = tmp_path / "int8.onnx"
    onnx.save(net.model(z), source)
    stripped = onnx.load(onnx_ghn.strip(source, tmp_path / "bare.onnx"))
    assert {t.name for t in stripped.graph.initializer if t.data_type == onnx.TensorProto.INT8} <= {
        name for name in settings if name.startswith("c_")
    } | {t.name for t in stripped.graph.initializer if not t.dims}
    filled = {node.output[0] for node in stripped.graph.node if node.op_type == "ConstantOfShape"}
    assert filled == {"table", "w", "r", "r_float"}


def test_single_scales_of_integers_are_constants() -> None:
    """As onnxruntime quantises a layer dynamically: the scale of the data times that of the weight."""
    net = Net()
    whole, data_scale, data_zero = net.op("DynamicQuantizeLinear", net.input("N", 6), n=3)
    w = net.weight(name="w", array=net.rng.integers(-127, 128, (6, 8), dtype=np.int8))
    sums = net.op("MatMulInteger", whole, w, data_zero)
    both = net.op("Mul", data_scale, net.weight(name="w_scale", array=np.array(0.02, np.float32)))
    found = net.op("Mul", net.op("Cast", sums, to=onnx.TensorProto.FLOAT), both)
    graph = build_graph(net.model(net.op("Add", found, net.weight(8, name="b"))))
    assert graph.uncertain == ()
    assert {row.name: row.reason for row in graph.constants} == {
        "w_scale": "the scale of quantised weights, or of their data"
    }
