"""Weights behind DequantizeLinear: new integers, new scales, the prediction within half a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from predict_models import Net, arrays, run, signature, tiny_ghn

from onnx_ghn import predict, strip


def quantised(
    dtype: Any = np.int8, channels: int | None = None, zero: int | None = 0, scale: Any = np.float32, opset: int = 19
) -> onnx.ModelProto:
    """Gemm by integers: weights 20 × 12, per tensor or (axis 0) per channel."""
    net = Net(opset)
    net.input("N", 12)
    shape = () if channels is None else (channels,)
    given = [
        net.tensor("w", net.rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (20, 12)), dtype),
        net.tensor("w_scale", np.full(shape, 0.01), scale),
    ]
    if zero is not None:
        given.append(net.tensor("w_zero", np.full(shape, zero), dtype))
    w = net.op("DequantizeLinear", *given, out="w_float", axis=0)
    if scale is not np.float32:
        w = net.op("Cast", w, out="w_cast", to=onnx.TensorProto.FLOAT)
    net.op("Gemm", "x", w, net.random("b", 20), out="y", transB=1)
    return net.model("y")


def float_twin() -> onnx.ModelProto:
    net = Net()
    net.input("N", 12)
    net.op("Gemm", "x", net.random("w", 20, 12), net.random("b", 20), out="y", transB=1)
    return net.model("y")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"zero": None},
        {"zero": 17},
        {"channels": 20},
        {"channels": 20, "zero": -5},
        {"dtype": np.uint8, "zero": 128},
        {"dtype": np.uint8, "zero": 100, "channels": 20},
        {"dtype": np.int32},
        {"scale": np.float16, "channels": 20},
    ],
    ids=str,
)
def test_within_half_a_step_of_the_prediction(options: dict[str, Any], tmp_path: Path) -> None:
    proto = quantised(**options)
    expected = predict(float_twin(), ghn=tiny_ghn())["w"]
    prediction = predict(proto, tmp_path / "out.onnx", ghn=tiny_ghn())
    assert set(prediction) == {"w", "w_scale", "b"}
    assert prediction.coverage.share("predicted") == 1
    old, stored = arrays(proto), arrays(onnx.load(tmp_path / "out.onnx"))
    assert {n: (a.shape, a.dtype) for n, a in stored.items()} == {n: (a.shape, a.dtype) for n, a in old.items()}
    assert np.array_equal(stored.get("w_zero"), old.get("w_zero"))
    assert signature(onnx.load(tmp_path / "out.onnx")) == signature(proto)
    onnx.checker.check_model(tmp_path / "out.onnx", full_check=True)

    scale = stored["w_scale"].astype(np.float64).reshape(-1, 1)
    dequantised = (
        stored["w"].astype(np.float64) - stored.get("w_zero", np.zeros(1)).astype(np.float64).reshape(-1, 1)
    ) * scale
    # Half precision rounds the scale, which the last step then may not quite reach.
    slack = 0.6 if options.get("scale") else 0.501
    assert (np.abs(dequantised - expected) <= slack * scale + 1e-7 * np.abs(expected)).all()
    # The scale is the smallest: some weight lies on the last step of its channel.
    assert np.abs(dequantised).max() == pytest.approx(np.abs(expected).max(), rel=0.02)
    outputs = ReferenceEvaluator(onnx.load(tmp_path / "out.onnx")).run(None, {"x": np.eye(12, dtype=np.float32)})
    np.testing.assert_allclose(outputs[0] - prediction["b"], dequantised.T, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [("shared", "shared"), ("computed", "not stored"), ("one-sided", "both signs"), ("blocks", "blocks")],
)
def test_what_cannot_be_quantised_anew_stays_with_a_reason(change: str, reason: str, tmp_path: Path) -> None:
    net = Net(21 if change == "blocks" else 17)
    net.input("N", 12)
    shape: tuple[int, ...] = {"blocks": (20, 3)}.get(change, ())
    axes: dict[str, Any] = {"axis": 1, "block_size": 4} if change == "blocks" else {}
    kind = np.uint8 if change == "one-sided" else np.int8
    scale = net.tensor("scale", np.full(shape, 0.01))
    if change == "computed":
        scale = net.op("ReduceMax", net.op("Abs", "x", out="abs"), out="scale_of_x", keepdims=0)
    given = [net.tensor("w", net.rng.integers(1, 100, (20, 12)), kind), scale]
    net.op("DequantizeLinear", *given, out="w_float", **axes)
    net.op("Gemm", "x", "w_float", net.random("b", 20), out="y", transB=1)
    outputs = ["y"]
    if change == "shared":
        net.op("DequantizeLinear", net.tensor("v", net.rng.integers(-9, 9, (12, 20)), np.int8), "scale", out="v_float")
        outputs = [net.op("MatMul", "y", net.op("Transpose", "v_float", out="v_t"), out="z")]
    proto = net.model(*outputs)
    prediction = predict(proto, tmp_path / "out.onnx", ghn=tiny_ghn())
    assert "w" not in prediction
    assert "scale" not in prediction
    old, stored = arrays(proto), arrays(onnx.load(tmp_path / "out.onnx"))
    np.testing.assert_array_equal(stored["w"], old["w"])
    np.testing.assert_array_equal(stored["scale"], old["scale"])
    entries = {entry.parameter.name: entry for entry in prediction.coverage.entries}
    if change != "computed":  # a scale made from the data makes no constant weight: there is nothing to fill
        assert (entries["w"].outcome, reason in entries["w"].reason) == ("kept", True), entries["w"]


def test_a_float_weight_that_the_file_quantises_itself(tmp_path: Path) -> None:
    """As quantisation-aware training exports it: QuantizeLinear and DequantizeLinear share scale and zero point."""
    net = Net()
    net.input("N", 12)
    given = [net.tensor("scale", np.array(1e-5)), net.tensor("zero", np.array(0), np.int8)]
    net.op("QuantizeLinear", net.random("w", 20, 12), *given, out="q")
    net.op("DequantizeLinear", "q", *given, out="w_float")
    net.op("Gemm", "x", "w_float", net.random("b", 20), out="y", transB=1)
    proto = net.model("y")
    prediction = predict(proto, tmp_path / "out.onnx", ghn=tiny_ghn())
    expected = predict(float_twin(), ghn=tiny_ghn())["w"]
    np.testing.assert_array_equal(prediction["w"], expected)
    x = np.eye(12, dtype=np.float32)
    got = run(tmp_path / "out.onnx", {"x": x})[0] - prediction["b"]
    np.testing.assert_allclose(got, expected.T, atol=0.51 * np.abs(expected).max() / 127)


@pytest.mark.parametrize(("kind", "largest"), [("int8", 127), ("float8_e4m3fn", 448), ("float8_e5m2", 57344)])
@pytest.mark.parametrize("told", ["zero point", "output_dtype"])
def test_copies_without_weights_get_the_scales_of_floats_that_files_quantise(
    kind: str, largest: int, told: str, tmp_path: Path
) -> None:
    """NVIDIA's modelopt: floats, a scale for each output, and the largest number of a type for the largest weight.

    `strip` fills both weight and scale: neither may be taken for something else.
    """
    net = Net(21, ir_version=10)
    net.input("N", 12)
    w = net.rng.standard_normal((20, 12)).astype(np.float32)
    steps = np.abs(w).max(1) / np.float32(largest)
    dtype = np.dtype(getattr(ml_dtypes, kind, kind))
    given = [net.tensor("w", w), net.tensor("w_scale", steps)]
    zero = [] if told == "output_dtype" else [net.tensor("zero", np.zeros(20), dtype)]
    kinds = {} if zero else {"output_dtype": onnx.helper.np_dtype_to_tensor_dtype(dtype)}
    net.op("QuantizeLinear", *given, *zero, out="q", axis=0, **kinds)
    net.op("DequantizeLinear", "q", "w_scale", *zero, out="w_float", axis=0)
    net.op("Gemm", "x", "w_float", net.random("b", 20), out="y", transB=1)
    onnx.save(net.model("y"), tmp_path / "donor.onnx")
    bare = strip(tmp_path / "donor.onnx", tmp_path / "bare.onnx")
    report = predict(bare, tmp_path / "out.onnx", donors=[tmp_path / "donor.onnx"]).coverage
    found = arrays(onnx.load(tmp_path / "out.onnx"))
    np.testing.assert_array_equal(found["w"], w)
    np.testing.assert_allclose(found["w_scale"], steps, rtol=1e-6)
    assert {entry.outcome for entry in report.entries} == {"inherited"}
    filled = predict(bare, tmp_path / "filled.onnx", ghn=tiny_ghn())
    found = arrays(onnx.load(tmp_path / "filled.onnx"))
    np.testing.assert_allclose(found["w_scale"], np.abs(filled["w"]).max(1) / largest, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "block", "axis", "has_zero"),
    [("int4", 128, 0, False), ("int4", 5, 0, True), ("uint8", 4, 1, True), ("float8_e5m2", 0, 1, False)],
)
def test_donors_of_blocks_and_of_floats_of_8_bits_give_what_they_stand_for(
    kind: str, block: int, axis: int, has_zero: bool, tmp_path: Path
) -> None:
    """Scales of blocks (NVIDIA's modelopt and Olive, of weights in 4 bits), the last of which may be a shorter one."""
    dtype = np.dtype(getattr(ml_dtypes, kind, kind))
    net = Net(21, ir_version=10)
    net.input("N", 12)
    w = net.rng.integers(-7, 8, (12, 20)) if not kind.startswith("u") else net.rng.integers(0, 255, (12, 20))
    shape = [12, 20] if block else [20]
    if block:
        shape[axis] = -(-shape[axis] // block)
    given = [net.tensor("w", w, dtype), net.tensor("scale", net.rng.uniform(0.01, 0.02, shape))]
    if has_zero:
        given.append(net.tensor("zero", net.rng.integers(1, 4, shape), dtype))
    net.op("DequantizeLinear", *given, out="d", axis=axis, **({"block_size": block} if block else {}))
    net.op("MatMul", "x", "d", out="h")
    net.op("MatMul", "h", net.random("v", 20, 5), out="y")
    onnx.save(net.model("y"), tmp_path / "donor.onnx")
    plain = Net()
    plain.input("N", 12)
    plain.op("MatMul", "x", plain.random("w", 12, 20), out="h")
    plain.op("MatMul", "h", plain.random("v", 20, 5), out="y")
    predict(plain.model("y"), tmp_path / "out.onnx", donors=[tmp_path / "donor.onnx"])
    x = net.rng.standard_normal((3, 12)).astype(np.float32)
    (expected,) = ReferenceEvaluator(onnx.load(tmp_path / "donor.onnx")).run(None, {"x": x})
    np.testing.assert_allclose(run(tmp_path / "out.onnx", {"x": x})[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2"])
def test_weights_that_are_stored_as_floats_of_8_bits(kind: str, tmp_path: Path) -> None:
    """onnxruntime's static quantizer with QuantType.QFLOAT8E4M3FN."""
    dtype = np.dtype(getattr(ml_dtypes, kind))
    net = Net(19, ir_version=9)
    net.input("N", 12)
    given = [net.tensor("w", net.rng.standard_normal((20, 12)), dtype), net.tensor("w_scale", np.array(0.01))]
    net.op("DequantizeLinear", *given, out="w_float")
    net.op("Gemm", "x", "w_float", net.random("b", 20), out="y", transB=1)
    predict(net.model("y"), tmp_path / "out.onnx", ghn=tiny_ghn())
    expected = predict(float_twin(), ghn=tiny_ghn())["w"]
    found = arrays(onnx.load(tmp_path / "out.onnx"))
    assert found["w"].dtype == dtype
    values = found["w"].astype(np.float32) * found["w_scale"]
    step = float(ml_dtypes.finfo(dtype).eps)  # of the largest number below each value
    assert (np.abs(values - expected) <= 0.51 * step * np.abs(expected) + 1e-3 * np.abs(expected).max()).all()
    assert np.abs(values).max() == pytest.approx(np.abs(expected).max(), rel=1e-4)


@pytest.mark.parametrize("largest", [126, 127, 128])
@pytest.mark.parametrize("channels", [None, 20])
def test_what_was_quantised_is_the_same_integers_again(largest: int, channels: int | None, tmp_path: Path) -> None:
    """A copy without weights has lost the donor's scales, whose integers need not reach the largest that there is."""
    proto = quantised(channels=channels)
    w, scale = proto.graph.initializer[:2]
    integers = np.clip(onnx.numpy_helper.to_array(w), -largest, min(largest, 127)).astype(np.int8)
    integers[:, 0] = -largest
    steps = np.linspace(0.01, 0.02, 20).astype(np.float32)[: channels or 1].reshape(tuple(scale.dims))
    w.CopyFrom(onnx.numpy_helper.from_array(integers, "w"))
    scale.CopyFrom(onnx.numpy_helper.from_array(steps, "w_scale"))
    onnx.save(proto, tmp_path / "donor.onnx")
    bare = strip(tmp_path / "donor.onnx", tmp_path / "bare.onnx")
    predict(bare, tmp_path / "out.onnx", donors=[tmp_path / "donor.onnx"])
    found = arrays(onnx.load(tmp_path / "out.onnx"))
    np.testing.assert_array_equal(found["w"], integers)
    np.testing.assert_allclose(found["w_scale"], steps, rtol=1e-6)


@pytest.mark.parametrize("highest", [False, True])
def test_scales_and_biases_of_one_sign_are_filled(highest: bool, tmp_path: Path) -> None:
    """Of an asymmetric quantiser's scales, all above zero, zero is the smallest integer; of biases below it, the
    largest.
    """
    net = Net()
    net.input("N", 12)
    zero = np.iinfo(np.uint8).max if highest else 0
    shift = 255 - np.arange(12) if highest else np.arange(12)
    integers = {"scale": 200 + np.arange(12), "shift": shift}
    floats = []
    for name, values in integers.items():
        start = zero if name == "shift" else 0
        given = [net.tensor(name, values, np.uint8), net.tensor(f"{name}_step", np.array(0.01))]
        given.append(net.tensor(f"{name}_zero", np.array(start), np.uint8))
        floats.append(net.op("DequantizeLinear", *given, out=f"{name}_float"))
    net.op("LayerNormalization", "x", *floats, out="n")
    net.op("MatMul", "n", net.random("w", 12, 5), out="y")
    onnx.save(net.model("y"), tmp_path / "donor.onnx")
    bare = strip(tmp_path / "donor.onnx", tmp_path / "bare.onnx")
    x = np.random.default_rng(0).standard_normal((3, 12)).astype(np.float32)
    predict(bare, tmp_path / "inherited.onnx", donors=[tmp_path / "donor.onnx"])
    found = arrays(onnx.load(tmp_path / "inherited.onnx"))
    np.testing.assert_array_equal(found["scale"], integers["scale"])
    np.testing.assert_array_equal(found["shift"], shift)
    outputs = [run(tmp_path / f"{name}.onnx", {"x": x})[0] for name in ("donor", "inherited")]
    np.testing.assert_allclose(*outputs, atol=1e-6)

    predict(bare, tmp_path / "standard.onnx", policy="none")
    found = arrays(onnx.load(tmp_path / "standard.onnx"))
    np.testing.assert_allclose(found["scale"] * found["scale_step"], np.ones(12), rtol=1e-6)
    assert set(found["shift"]) == {zero}


def turned(*, in_file: bool) -> onnx.ModelProto:
    """A square weight that is turned before it is dequantised by a scale for each column (NNCF behind torch's export).

    Args:
        in_file: stored as floats, which the file quantises; else as integers.
    """
    net = Net(19)
    net.input("N", 16)
    integers = net.rng.integers(-127, 127, (16, 16), np.int8)
    scale = np.linspace(0.01, 0.1, 16).astype(np.float32)
    given = net.tensor("w_scale", scale), net.tensor("w_zero", np.zeros(16), np.int8)
    stored = integers.T * scale[:, None] if in_file else integers.T
    w = net.op("Transpose", net.tensor("w", stored, np.float32 if in_file else np.int8), out="w_turned", perm=[1, 0])
    if in_file:
        w = net.op("QuantizeLinear", w, *given, out="w_steps", axis=-1)
    w = net.op("DequantizeLinear", w, *given, out="w_float", axis=-1)
    net.op("MatMul", "x", w, out="y")
    return net.model("y")


@pytest.mark.parametrize("in_file", [True, False])
def test_scales_go_with_the_axis_that_is_stored(in_file: bool, tmp_path: Path) -> None:
    path, bare, given, filled = (tmp_path / f"{name}.onnx" for name in ("model", "bare", "given", "filled"))
    onnx.save(turned(in_file=in_file), path)
    prediction = predict(path, filled, ghn=tiny_ghn(), policy="all")
    assert prediction.coverage.share("predicted") == 1
    stored = arrays(onnx.load(filled))
    largest = np.abs(stored["w"].astype(np.float32)).max(axis=1)  # one row a channel
    np.testing.assert_allclose(largest / stored["w_scale"] if in_file else largest, 127, atol=1.1)

    strip(path, bare)
    predict(bare, given, ghn=tiny_ghn(), donors=[path])
    feed = {"x": np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)}
    np.testing.assert_allclose(run(given, feed)[0], run(path, feed)[0], rtol=1e-5, atol=1e-5)


def test_scales_that_go_with_no_stored_axis_leave_a_weight() -> None:
    net = Net(19)
    net.input("N", 8)
    view = net.op("Reshape", net.random("w", 4, 16), net.tensor("shape", [8, 8], np.int64), out="view")
    given = view, net.tensor("w_scale", np.full(8, 0.1)), net.tensor("w_zero", np.zeros(8), np.int8)
    steps = net.op("QuantizeLinear", *given, out="steps", axis=1)
    net.op("MatMul", "x", net.op("DequantizeLinear", steps, *given[1:], out="float", axis=1), out="y")
    prediction = predict(net.model("y"), ghn=tiny_ghn(), policy="all")
    assert [(e.outcome, "no axis" in e.reason) for e in prediction.coverage.entries] == [("kept", True)]


def qonnx(bits: int) -> onnx.ModelProto:
    """A convolution as Brevitas and QONNX write it: floats, a scale for each channel, and `Quant` in between."""
    net = Net(17)
    net.input("N", 3, 8, 8)
    number = {name: net.tensor(name, value) for name, value in (("zero", 0), ("bits", bits), ("wide", 32))}
    scales = np.linspace(0.5, 1, 8) / (1 << bits)
    given = net.random("w", 8, 3, 3, 3), net.tensor("w_scale", scales.reshape(8, 1, 1, 1)), number["zero"]
    domain, attributes = "qonnx.custom_op.general", {"narrow": 1, "signed": 1, "rounding_mode": "ROUND"}
    w = net.op("Quant", *given, number["bits"], out="w_float", domain=domain, **attributes)
    given = net.random("b", 8), net.tensor("b_scale", scales / 100), number["zero"]
    b = net.op("Quant", *given, number["wide"], out="b_float", domain=domain, **attributes)
    net.op("Conv", "x", w, b, out="y", pads=[1, 1, 1, 1])
    return net.model("y", shape=["N", 8, 8, 8])


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_scales_of_qonnx_go_with_their_weights(bits: int, tmp_path: Path) -> None:
    path, bare, given = (tmp_path / f"{name}.onnx" for name in ("model", "bare", "given"))
    onnx.save(qonnx(bits), path)
    prediction = predict(path, ghn=tiny_ghn(), policy="all")
    assert {e.parameter.name: e.outcome for e in prediction.coverage.entries if not e.parameter.uncertain} == {
        "w": "predicted",
        "b": "predicted",
    }
    steps = np.abs(prediction["w"] / prediction["w_scale"]).max(axis=(1, 2, 3))
    np.testing.assert_allclose(steps, 2 ** (bits - 1) - 1, rtol=1e-5)  # the largest that there is
    old = arrays(onnx.load(path))
    np.testing.assert_array_equal(prediction["b_scale"], old["b_scale"])

    strip(path, bare)
    predict(bare, given, ghn=tiny_ghn(), donors=[path])
    new = arrays(onnx.load(given))
    assert all(np.array_equal(new[name], old[name]) for name in ("w", "b", "b_scale", "zero", "bits"))
