"""Models to damage, and models that are odd from the start."""

from __future__ import annotations

import io_models as m
import numpy as np
import onnx
from graph_models import Net
from onnx import TensorProto, helper, numpy_helper

F = TensorProto.FLOAT


def conv_net(width: int = 8, classes: int = 10) -> onnx.ModelProto:
    """Conv, BatchNormalization, pooling, a residual sum, Gemm."""
    net = Net(opset=17)
    x = net.input("N", 3, 8, 8)
    x = net.conv(x, 3, width, "stem.weight", kernel=3)
    x = net.op("Relu", batch_norm(net, x, width, "bn1"))
    y = net.conv(x, width, width, "block.weight", kernel=3)
    y = batch_norm(net, y, width, "bn2")
    x = net.op("Relu", net.op("Add", x, y))
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    y = net.op(
        "Gemm", x, net.weight(classes, width, name="head.weight"), net.weight(classes, name="head.bias"), transB=1
    )
    return net.model(y, shape=("N", classes))


def batch_norm(net: Net, x: str, width: int, name: str) -> str:
    """BatchNormalization with its four tensors."""
    parts = [net.weight(width, name=f"{name}.{part}") for part in ("weight", "bias", "mean")]
    variance = net.weight(name=f"{name}.var", array=np.abs(net.array(width)) + 0.5)
    return net.op("BatchNormalization", x, *parts, variance)


def loops() -> onnx.ModelProto:
    """Weights inside the bodies of Loop and Scan, in If branches and in a function."""
    step = helper.make_graph(
        [
            helper.make_node("MatMul", ["s", "lw"], ["s2"]),
            helper.make_node("Identity", ["c"], ["c2"]),
        ],
        "body",
        [m.info("i", kind=TensorProto.INT64), m.info("c", kind=TensorProto.BOOL), m.info("s", 1, 64)],
        [m.info("c2", kind=TensorProto.BOOL), m.info("s2", 1, 64)],
        [m.init("lw", 64, 64, seed=1)],
    )
    scan = helper.make_graph(
        [helper.make_node("Add", ["state", "item"], ["new"]), helper.make_node("MatMul", ["new", "sw"], ["o"])],
        "scan",
        [m.info("state", 64), m.info("item", 64)],
        [m.info("new", 64), m.info("o", 64)],
        [m.init("sw", 64, 64, seed=2)],
    )
    proto = m.every_form()
    proto.graph.node[-1].output[0] = "f"
    proto.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(2, np.int64), "trips"),
            numpy_helper.from_array(np.zeros(64, np.float32), "zero"),
        ]
    )
    proto.graph.node.extend(
        [
            helper.make_node("Loop", ["trips", "cond", "f"], ["l"], body=step, name="loop"),
            helper.make_node("Scan", ["zero", "l"], ["last", "y"], body=scan, num_scan_inputs=1, name="scan"),
        ]
    )
    onnx.checker.check_model(proto)
    return proto


def one_op(op_type: str, *weights: tuple[int, ...] | np.ndarray, rank: int = 2, domain: str = "", **attrs):
    """An operator on data with weights of any shape, then a MatMul, so that something is always predictable."""
    net = Net(opset=17)
    x = net.input(*([2] * (rank - 1)), 4)
    names = [
        net.weight(name=f"w{i}", array=w if isinstance(w, np.ndarray) else net.array(*w)) for i, w in enumerate(weights)
    ]
    y = net.op(op_type, x, *names, domain=domain, **attrs)
    return net.model(net.linear(y, 4, 4, "last"))
