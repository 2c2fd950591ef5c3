"""Kinds and sizes by hand."""

from __future__ import annotations

from math import log2
from typing import Any

import pytest

from onnx_ghn.properties.machine.features import kind_and_sizes
from onnx_ghn.properties.machine.running import RunNode, Value


def value(*shape: int, item: int = 4, constant: bool = False) -> Value:
    return Value("v", shape, item, is_constant=constant)


def node(op_type: str, inputs: list[Value], *outputs: Value, domain: str = "", **attributes: Any) -> RunNode:
    return RunNode("n", op_type, domain, attributes, tuple(inputs), outputs)


def weight(*shape: int) -> Value:
    return value(*shape, constant=True)


CASES = {
    "dense convolution": (
        node("Conv", [value(1, 32, 16, 16), weight(64, 32, 3, 3)], value(1, 64, 8, 8), strides=[2, 2]),
        "2-D dense convolution",
        (64, 64, 32, 9, 4, 8, 1, 1, 64 * 64 * 32 * 9),
    ),
    "blocked pointwise": (
        node("Conv", [value(2, 32, 4, 4), weight(64, 32, 1, 1)], value(2, 64, 4, 4), domain="com.microsoft.nchwc"),
        "blocked pointwise convolution",
        (32, 64, 32, 1, 1, 1, 32 * 64 * 32),
    ),
    "depthwise": (
        node("FusedConv", [value(1, 24, 8, 8), weight(24, 1, 5, 5)], value(1, 24, 8, 8), group=24),
        "2-D depthwise convolution",
        (64, 24, 25, 1, 8, 1, 1, 64 * 24 * 25),
    ),
    "grouped": (
        node("Conv", [value(1, 32, 8, 8), weight(32, 8, 3, 3)], value(1, 32, 8, 8), group=4),
        "2-D grouped convolution",
        (64, 4, 8, 8, 9, 1, 8, 1, 1, 64 * 32 * 8 * 9),
    ),
    "stored product over a batch": (
        node("MatMul", [value(2, 10, 64), weight(64, 128)], value(2, 10, 128)),
        "matrix by stored matrix",
        (20, 128, 64, 1, 1, 1, 20 * 128 * 64),
    ),
    "computed product": (
        node("FusedMatMul", [value(3, 10, 64), value(3, 20, 64)], value(3, 10, 20), transB=1),
        "matrix by computed matrix",
        (10, 20, 64, 3, 1, 2, 3 * 10 * 20 * 64),
    ),
    "vector": (
        node("Gemm", [value(1, 64), weight(10, 64), weight(10)], value(1, 10), transB=1),
        "vector by stored matrix",
        (1, 10, 64, 1, 1, 2, 640),
    ),
    "LSTM": (
        node("LSTM", [value(7, 2, 5), weight(2, 12, 5), weight(2, 12, 3)], value(7, 2, 2, 3)),
        "LSTM",
        (7, 2, 5, 3, 2, 7 * 2 * 2 * 3 * 4 * 8),
    ),
    "view": (node("Reshape", [value(2, 3), weight(1)], value(6)), "view", ()),
    "softmax": (node("Softmax", [value(2, 8, 16)], value(2, 8, 16), axis=-1), "Softmax", (256, 16, 1)),
    "softmax over rows": (node("Softmax", [value(2, 8, 16)], value(2, 8, 16), axis=1), "Softmax", (256, 8, 16)),
    "mean over places": (
        node("ReduceMean", [value(1, 8, 4, 4)], value(1, 8, 1, 1), axes=[2, 3], keepdims=1),
        "ReduceMean",
        (128, 16, 1),
    ),
    "mean of columns": (
        node("ReduceMean", [value(4, 8)], value(8), axes=[0], keepdims=0),
        "ReduceMean",
        (32, 4, 8),
    ),
    "alike": (node("Add", [value(4, 8), value(4, 8)], value(4, 8)), "Add", (32,)),
    "a number": (node("Mul", [value(4, 8), weight()], value(4, 8)), "Mul", (32,)),
    "a row": (node("Add", [value(4, 8), weight(8)], value(4, 8)), "Add broadcast", (32, 8, 8)),
    "a gate": (
        node("Mul", [value(1, 8, 4, 4), value(1, 8, 1, 1)], value(1, 8, 4, 4)),
        "Mul broadcast",
        (128, 16, 8),
    ),
    "heads": (
        node("Transpose", [value(1, 10, 4, 16)], value(1, 4, 10, 16), perm=[0, 2, 1, 3]),
        "transposition of runs",
        (640, 16, 10),
    ),
    "matrix": (
        node("Transpose", [value(1, 10, 16)], value(1, 16, 10), perm=[0, 2, 1]),
        "transposition",
        (160, 10, 16, 4),
    ),
    "sizes of one": (
        node("Transpose", [value(1, 10, 16)], value(10, 1, 16), perm=[1, 0, 2]),
        "transposition of nothing",
        (640,),
    ),
    "concat": (
        node("Concat", [value(1, 8, 4), value(1, 8, 4)], value(1, 16, 4), axis=1),
        "Concat",
        (64, 32, 2),
    ),
    "rows of a table": (
        node("Gather", [weight(100, 16), value(1, 5, item=8)], value(1, 5, 16)),
        "Gather",
        (80, 16, 6400),
    ),
    "integers": (node("Cast", [value(4, 8, item=8)], value(4, 8)), "Cast 8B", (32,)),
}


@pytest.mark.parametrize("case", CASES)
def test_kinds_and_sizes(case: str) -> None:
    one, kind, sizes = CASES[case]
    assert kind_and_sizes(one)[0] == kind
    assert kind_and_sizes(one)[1] == pytest.approx([log2(size) for size in sizes])
