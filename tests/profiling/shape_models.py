"""Models whose inputs declare symbols."""

from __future__ import annotations

import onnx
from graph_models import Net
from onnx import TensorProto


def text_net(words: int = 50, width: int = 8) -> onnx.ModelProto:
    """ids and mask [batch, sequence], which must be of one shape: the masked sum of the words' vectors."""
    net = Net()
    ids = net.input("batch", "sequence", name="ids", kind=TensorProto.INT64)
    mask = net.input("batch", "sequence", name="mask")
    x = net.op("Gather", net.weight(words, width, name="words"), ids)
    x = net.op("MatMul", net.op("Unsqueeze", mask, net.number([1], "int64")), x)
    return net.model(net.linear(x, width, 4, "head"))


def two_inputs(shape: tuple[object, ...], other: tuple[object, ...]) -> onnx.ModelProto:
    """The sums of two inputs a and b of these shapes, side by side."""
    net = Net()
    a, b = net.input(*shape, name="a"), net.input(*other, name="b")
    return net.model(net.op("ReduceSum", a, keepdims=0), net.op("ReduceSum", b, keepdims=0))
