"""Files that onnxruntime quantised, as donors and as recipients: a bias goes by the scale of its layer's products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from onnx_ghn import predict
from onnx_ghn.errors import OptionError

SHAPES = {"a": (8, 3, 3, 3), "a.b": (8,), "c": (8, 4, 3, 3), "c.b": (8,), "d": (5, 8), "d.b": (5,)}


def network(width: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Two convolutions, the second in two groups, and a layer, on images of 6 × 6."""
    rng = np.random.default_rng(seed)
    shapes = {n: tuple(width if s == 8 else width // 2 if s == 4 else s for s in shape) for n, shape in SHAPES.items()}
    values = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "a", "a.b"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("Conv", ["i", "c", "c.b"], ["j"], group=2),
        helper.make_node("Relu", ["j"], ["k"]),
        helper.make_node("GlobalAveragePool", ["k"], ["l"]),
        helper.make_node("Flatten", ["l"], ["m"]),
        helper.make_node("Gemm", ["m", "d", "d.b"], ["y"], transB=1),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 6, 6]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5]),
    ]
    stored = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, 3, 6, 6)).astype(np.float32)


class Images(CalibrationDataReader):
    def __init__(self) -> None:
        self.left = iter([{"x": images(seed)} for seed in range(4)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A float network, its quantised forms, and a network of twice the width."""
    onnx.save(network(), tmp_path / "float.onnx")
    onnx.save(network(16, seed=1), tmp_path / "wide.onnx")
    for name, per_channel in (("tensor", False), ("channel", True)):
        target = tmp_path / f"{name}.onnx"
        # With the whole range, integer kernels of processors without VNNI instructions overflow.
        quantize_static(
            tmp_path / "float.onnx", target, Images(), quant_format=QuantFormat.QDQ, per_channel=per_channel,
            reduce_range=True,
        )  # fmt: skip
    return tmp_path


def run(path: Path, level: str = "ORT_ENABLE_ALL") -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    output: np.ndarray = session.run(None, {"x": images(9)})[0]
    return output


def apart(path: Path, other: Path) -> float:
    ours, theirs = run(path), run(other)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def values(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


@pytest.mark.parametrize("donor", ["tensor", "channel"])
@pytest.mark.parametrize("recipient", ["float", "wide"])
def test_a_quantised_donor_gives_its_floats(donor: str, recipient: str, folder: Path) -> None:
    """The outputs of a float network that holds (integers - zero point) × scale, by the donor's file."""
    prediction = predict(folder / f"{recipient}.onnx", folder / "out.onnx", donors=[folder / f"{donor}.onnx"])
    assert prediction.inheritance is not None
    assert prediction.inheritance.tensors.keys() == SHAPES.keys()
    assert prediction.inheritance.is_exact
    stored, expected = values(folder / f"{donor}.onnx"), network()
    for tensor in expected.graph.initializer:
        is_bias = tensor.name.endswith(".b")
        scale = stored[f"{tensor.name}_quantized_scale" if is_bias else f"{tensor.name}_scale"]
        zero = stored[f"{tensor.name}_quantized_zero_point" if is_bias else f"{tensor.name}_zero_point"]
        integers = stored[f"{tensor.name}_quantized"]
        shape = (-1, *[1] * (integers.ndim - 1))
        floats = (integers.astype(np.float64) - zero.reshape(shape)) * scale.reshape(shape)
        tensor.CopyFrom(numpy_helper.from_array(floats.astype(np.float32), tensor.name))
    onnx.save(expected, folder / "expected.onnx")
    assert apart(folder / "out.onnx", folder / "expected.onnx") < 1e-5


@pytest.mark.parametrize("recipient", ["tensor", "channel"])
@pytest.mark.parametrize("options", [{}, {"exclude": [r"\.b"]}], ids=["all", "weights alone"])
def test_a_bias_goes_by_the_scale_of_its_products(recipient: str, options: dict[str, Any], folder: Path) -> None:
    """onnxruntime adds a bias to sums of integers, and never reads its scale: that has to be the product."""
    onnx.save(network(seed=3), folder / "other.onnx")
    predict(folder / f"{recipient}.onnx", folder / "out.onnx", donors=[folder / "other.onnx"], **options)
    found, before, given = (values(folder / name) for name in ("out.onnx", f"{recipient}.onnx", "other.onnx"))
    for name, source in (("a", "x_scale"), ("c", "i_scale"), ("d", "l_scale")):
        assert not np.array_equal(found[f"{name}_scale"], before[f"{name}_scale"])
        product = found[source] * found[f"{name}_scale"]
        scale = found[f"{name}.b_quantized_scale"]
        np.testing.assert_allclose(scale.reshape(-1), product.reshape(-1), rtol=1e-6)
        floats = found[f"{name}.b_quantized"] * scale
        kept = before[f"{name}.b_quantized"] * before[f"{name}.b_quantized_scale"]
        np.testing.assert_allclose(floats, kept if options else given[f"{name}.b"], atol=scale.max())
    # With and without integer kernels, a network computes the same.
    both = [run(folder / "out.onnx", level) for level in ("ORT_ENABLE_ALL", "ORT_DISABLE_ALL")]
    np.testing.assert_allclose(*both, atol=0.02 * np.abs(both[1]).max())


@pytest.mark.parametrize("type_", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("is_reduced", [True, False])
def test_a_reduced_range_stays(type_: QuantType, is_reduced: bool, folder: Path) -> None:
    onnx.save(network(seed=3), folder / "other.onnx")
    quantize_static(
        folder / "float.onnx", folder / "range.onnx", Images(), quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8, weight_type=type_, reduce_range=is_reduced,
    )  # fmt: skip
    predict(folder / "range.onnx", folder / "out.onnx", donors=[folder / "other.onnx"])
    found, given = values(folder / "out.onnx"), values(folder / "other.onnx")
    span = {(True, QuantType.QInt8): 128, (True, QuantType.QUInt8): 127}.get((is_reduced, type_), 255)
    for name in ("a", "c"):
        integers = found[f"{name}_quantized"].astype(np.int64)
        assert 0.6 * span < integers.max() - integers.min() <= span
        floats = (integers - int(found[f"{name}_zero_point"])) * found[f"{name}_scale"]
        np.testing.assert_allclose(floats, given[name], atol=0.51 * found[f"{name}_scale"])


def test_small_integers_around_another_zero_are_no_reduced_range(folder: Path) -> None:
    """Weights below a zero point of 128 are all in the lower half, which leaves the zero point no place."""
    onnx.save(network(seed=3), folder / "other.onnx")
    unsigned = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8}
    quantize_static(folder / "float.onnx", folder / "low.onnx", Images(), quant_format=QuantFormat.QDQ, **unsigned)
    model = onnx.load(folder / "low.onnx")
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if tensor.name in ("a_quantized", "a_zero_point"):
            new = np.minimum(array, 127) if tensor.name == "a_quantized" else np.full_like(array, 128)
            tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
    onnx.save(model, folder / "low.onnx")
    predict(folder / "low.onnx", folder / "out.onnx", donors=[folder / "other.onnx"])
    found, given = values(folder / "out.onnx"), values(folder / "other.onnx")["a"]
    floats = (found["a_quantized"].astype(np.int64) - 128) * found["a_scale"]
    np.testing.assert_allclose(floats, given, atol=0.51 * found["a_scale"])


def test_predicted_biases_too(folder: Path) -> None:
    predict(folder / "channel.onnx", folder / "out.onnx", policy="all", overwrite_special=True)
    found = values(folder / "out.onnx")
    product = found["i_scale"] * found["c_scale"]
    np.testing.assert_allclose(found["c.b_quantized_scale"], product, rtol=1e-6)


@pytest.mark.parametrize("name", ["tensor", "channel"])
def test_the_same_quantised_file_keeps_its_values(name: str, folder: Path) -> None:
    predict(folder / f"{name}.onnx", folder / "out.onnx", donors=[folder / f"{name}.onnx"])
    before, after = values(folder / f"{name}.onnx"), values(folder / "out.onnx")
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value, err_msg=key)


def test_rounding_to_integers_is_not_exact(folder: Path) -> None:
    prediction = predict(folder / "tensor.onnx", donors=[folder / "float.onnx"])
    assert "to which its values are rounded" in " ".join(prediction.coverage.notes)


def test_integers_that_nothing_dequantises_are_refused_by_name(folder: Path) -> None:
    quantize_static(folder / "float.onnx", folder / "operators.onnx", Images(), quant_format=QuantFormat.QOperator)
    quantize_dynamic(folder / "float.onnx", folder / "dynamic.onnx")
    for name in ("operators", "dynamic"):
        with pytest.raises(OptionError, match="3 weights as integers that no DequantizeLinear reads"):
            predict(folder / "float.onnx", donors=[folder / f"{name}.onnx"])
