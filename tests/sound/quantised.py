"""Quantised files, as onnxruntime's tools and onnx's own operators make them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from predict_models import Net

__all__ = ["QUANTISED"]

Make = Callable[[Path], None]


class _Noise:
    """Three batches of standard normal inputs, as onnxruntime's calibration takes them."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(1)
        self._feeds: Iterator[dict[str, Any]] = iter(
            [{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(3)]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def _sensible(model: onnx.ModelProto) -> onnx.ModelProto:
    """With weights of Kaiming's scale, as a framework draws them: those of the other tests are larger."""
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim > 1 and values.dtype == np.float32:
            fan_in = max(values[0].size, 1)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(np.sqrt(2 / fan_in)), tensor.name))
    return model


def _image_net() -> onnx.ModelProto:
    """Three convolutions and a classifier; no norm, as quantisers merge them."""
    net = Net(opset=21, ir_version=10)
    net.input("N", 3, 16, 16)
    x = "x"
    for i, (n_in, n_out) in enumerate(((3, 16), (16, 32), (32, 32))):
        y = net.op("Conv", x, net.random(f"w{i}", n_out, n_in, 3, 3), net.random(f"b{i}", n_out), out=f"c{i}")
        x = net.op("Relu", y, out=f"r{i}")
    x = net.op("Flatten", net.op("GlobalAveragePool", x, out="pool"), out="flat")
    net.op("Gemm", x, net.random("fc.w", 10, 32), net.random("fc.b", 10), out="y", transB=1)
    return _sensible(net.model("y"))


def _wide_mlp() -> onnx.ModelProto:
    net = Net(opset=21, ir_version=10)
    net.input("N", 64)
    h = net.op("Relu", net.op("MatMul", "x", net.random("w1", 64, 128), out="a"), out="h")
    g = net.op("Relu", net.op("MatMul", h, net.random("w2", 128, 64), out="b"), out="g")
    net.op("Gemm", g, net.random("w3", 10, 64), net.random("b3", 10), out="y", transB=1)
    return _sensible(net.model("y"))


def _dynamic(model: Callable[[], onnx.ModelProto], path: Path, **options: Any) -> None:
    from onnxruntime.quantization import quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it advises on the root logger
    quantize_dynamic(model(), path, **options)


def _static(
    model: Callable[[], onnx.ModelProto], path: Path, shape: tuple[int, ...] = (8, 3, 16, 16), **options: Any
) -> None:
    from onnxruntime.quantization import quantize_static

    logging.getLogger().setLevel(logging.ERROR)
    quantize_static(model(), path, _Noise(shape), **options)


def _four_bits(path: Path, *, as_qdq: bool = False, symmetric: bool = True) -> None:
    from onnxruntime.quantization import QuantFormat
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    logging.getLogger().setLevel(logging.ERROR)
    quantiser = MatMulNBitsQuantizer(
        _wide_mlp(),
        block_size=32,
        is_symmetric=symmetric,
        quant_format=QuantFormat.QDQ if as_qdq else QuantFormat.QOperator,
        nodes_to_exclude=["n_b"],
    )
    quantiser.process()
    onnx.save(quantiser.model.model, path)


def _linear_matmul(path: Path) -> None:
    """QLinearMatMul of onnx itself, with a float layer behind."""
    net = Net()
    net.input("N", 16)
    for name, scale in (("x", 0.03), ("w", 0.004), ("a", 0.05)):
        net.tensor(f"{name}_scale", scale)
        net.tensor(f"{name}_zero_point", 0, np.int8)
    q = net.op("QuantizeLinear", "x", "x_scale", "x_zero_point", out="q")
    net.tensor("w_quantized", net.rng.integers(-127, 128, (16, 32)), np.int8)
    given = ["x_scale", "x_zero_point", "w_quantized", "w_scale", "w_zero_point", "a_scale", "a_zero_point"]
    a = net.op("DequantizeLinear", net.op("QLinearMatMul", q, *given, out="qa"), *given[-2:], out="a")
    net.op("MatMul", net.op("Relu", a, out="r"), net.tensor("w2", 0.2 * net.rng.standard_normal((32, 10))), out="y")
    onnx.save(net.model("y"), path)


def _linear_conv(path: Path) -> None:
    """QLinearConv by channel, with a float layer behind."""
    net = Net()
    net.input("N", 3, 12, 12)
    net.tensor("x_scale", 0.03)
    net.tensor("x_zero_point", 128, np.uint8)
    net.tensor("a_scale", 0.05)
    net.tensor("a_zero_point", 128, np.uint8)
    net.tensor("w_quantized", net.rng.integers(-127, 128, (16, 3, 3, 3)), np.int8)
    net.tensor("w_scale", net.rng.uniform(0.002, 0.004, 16))
    net.tensor("w_zero_point", np.zeros(16), np.int8)
    net.tensor("b_quantized", net.rng.integers(-500, 500, 16), np.int32)
    q = net.op("QuantizeLinear", "x", "x_scale", "x_zero_point", out="q")
    given = ["x_scale", "x_zero_point", "w_quantized", "w_scale", "w_zero_point", "a_scale", "a_zero_point"]
    qa = net.op("QLinearConv", q, *given, "b_quantized", out="qa", kernel_shape=[3, 3])
    a = net.op("DequantizeLinear", qa, *given[-2:], out="a")
    w2 = net.tensor("w2", 0.2 * net.rng.standard_normal((8, 16, 3, 3)))
    net.op("Conv", net.op("Relu", a, out="r"), w2, out="y")
    onnx.save(net.model("y"), path)


def _integer_matmul(path: Path) -> None:
    """MatMulInteger of onnx itself, scaled back by hand, with a float layer behind."""
    net = Net()
    net.input("N", 16)
    net.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]))
    net.tensor("w_quantized", net.rng.integers(-127, 128, (16, 32)), np.int8)
    net.tensor("w_zero_point", 0, np.int8)
    net.op("MatMulInteger", "q", "w_quantized", "z", "w_zero_point", out="i")
    net.op("Cast", "i", out="f", to=TensorProto.FLOAT)
    net.op("Mul", "f", net.op("Mul", "s", net.tensor("w_scale", 0.004), out="both"), out="a")
    net.op("MatMul", net.op("Relu", "a", out="r"), net.tensor("w2", 0.2 * net.rng.standard_normal((32, 10))), out="y")
    onnx.save(net.model("y"), path)


def _options() -> tuple[Any, Any]:
    from onnxruntime.quantization import QuantFormat, QuantType

    return QuantFormat, QuantType


def _static_by(path: Path, form: str, weights: str = "QInt8", activations: str = "QInt8", **options: Any) -> None:
    formats, types = _options()
    _static(
        _image_net,
        path,
        quant_format=formats[form],
        weight_type=types[weights],
        activation_type=types[activations],
        **options,
    )


def _dynamic_by(model: Callable[[], onnx.ModelProto], path: Path, weights: str, **options: Any) -> None:
    _dynamic(model, path, weight_type=_options()[1][weights], **options)


_ACTIVATIONS = r"^(x|c\d|r\d|pool|flat|y|a)_(scale|zero_point)$"
_ALL = r"_(scale|zero_point|quantized|scales|zero_points|Q4|Q4G32)$"

#: A file each, and an expression for the names of the tensors that have to stay as they are.
QUANTISED: dict[str, tuple[Make, str]] = {
    "dynamic, int8 MLP": (
        lambda path: _dynamic_by(_wide_mlp, path, "QInt8", nodes_to_exclude=["n_b"]),
        _ALL,
    ),
    "dynamic, uint8 convolutions": (
        lambda path: _dynamic_by(_image_net, path, "QUInt8", nodes_to_exclude=["n_c1"]),
        _ALL,
    ),
    "dynamic, int8 by channel": (
        lambda path: _dynamic_by(_wide_mlp, path, "QInt8", per_channel=True, nodes_to_exclude=["n_b"]),
        _ALL,
    ),
    "QDQ, int8": (functools.partial(_static_by, form="QDQ"), _ACTIVATIONS),
    "QDQ, int8 by channel": (functools.partial(_static_by, form="QDQ", per_channel=True), _ACTIVATIONS),
    "QDQ, uint8 activations": (
        functools.partial(_static_by, form="QDQ", activations="QUInt8", reduce_range=True),
        _ACTIVATIONS,
    ),
    "QDQ, int16 activations": (
        functools.partial(_static_by, form="QDQ", activations="QInt16", extra_options={"UseQDQContribOps": True}),
        _ACTIVATIONS,
    ),
    "QDQ, first layer in float": (
        functools.partial(_static_by, form="QDQ", nodes_to_exclude=["n_c0"]),
        _ACTIVATIONS,
    ),
    "QOperator, int8, last layer in float": (
        functools.partial(_static_by, form="QOperator", nodes_to_exclude=["n_y"]),
        _ALL,
    ),
    "MatMulNBits, 4 bits": (_four_bits, _ALL),
    "MatMulNBits, 4 bits with zero points": (functools.partial(_four_bits, symmetric=False), _ALL),
    "4 bits as QDQ by block": (functools.partial(_four_bits, as_qdq=True), ""),
    "QLinearMatMul of onnx": (_linear_matmul, _ALL),
    "QLinearConv of onnx": (_linear_conv, _ALL),
    "MatMulInteger of onnx": (_integer_matmul, _ALL),
}
