"""Operators that are rare in the other probes, each on a value of drawn size that the operator before has written."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from onnx_ghn.properties.machine.probe import ProbeBuilder, Tensor
from onnx_ghn.properties.machine.probe_layers import (
    activation,
    add,
    concat,
    matmul,
    mul,
    permute,
    reshape,
    slice_,
    softmax,
    split,
)

__all__ = ["operator_network"]

_BOOL, _INT64, _INT32 = TensorProto.BOOL, TensorProto.INT64, TensorProto.INT32
_UNARY: tuple[str, ...] = (
    "relu",
    "sigmoid",
    "tanh",
    "exp",
    "neg",
    "abs",
    "erf",
    "sqrt",
    "softplus",
    "elu",
    "hardswish",
    "hardsigmoid",
)
_UNARY += ("leaky", "log", "sin", "cos", "relu6", "silu", "gelu", "gelu_tanh")
_BINARY = ("Add", "Mul", "Sub", "Div", "Max", "Min", "Pow")


def operator_network(p: ProbeBuilder, most_macs: float) -> None:
    """Forty operators or so, each on a value of its own size."""
    for _ in range(40):
        size = int(2 ** p.rng.uniform(3, 20.5))
        p.rng.choice(_OPERATORS)(p, _fresh(p, size))


def _fresh(p: ProbeBuilder, size: int) -> Tensor:
    """A value of about so many elements and a drawn rank, just written."""
    rank = p.rng.choice((2, 3, 4, 4))
    left, shape = size, []
    for axis in range(rank - 1):
        part = max(int(2 ** p.rng.uniform(0, math.log2(max(left, 1)) * 2 / (rank - axis))), 1)
        shape.append(part)
        left = max(left // part, 1)
    x = p.input(*shape[::-1], left) if p.rng.random() < 0.5 else p.input(left, *shape)
    return p.op("Relu", [x], x.shape)


def _unary(p: ProbeBuilder, x: Tensor) -> None:
    activation(p, x, p.rng.choice(_UNARY))


def _binary(p: ProbeBuilder, x: Tensor) -> None:
    """With a value as large, a number, or one that is repeated along some axes."""
    op_type = p.rng.choice(_BINARY)
    kind = p.rng.random()
    if kind < 0.3:
        p.op(op_type, [x, p.op("Abs", [x], x.shape)], x.shape)
    elif kind < 0.45:
        p.op(op_type, [x, p.number(1.5)], x.shape)
    else:
        small = tuple(size if p.rng.random() < 0.5 else 1 for size in x.shape)
        p.op(op_type, [x, p.weight(*small)], x.shape)


def _compared(p: ProbeBuilder, x: Tensor) -> None:
    op_type = p.rng.choice(("Greater", "Less", "Equal"))
    seen = p.op(op_type, [x, p.number(0.5)], x.shape, _BOOL)
    other = p.op(p.rng.choice(("And", "Or")), [seen, p.op("Not", [seen], x.shape, _BOOL)], x.shape, _BOOL)
    p.op("Where", [other, x, p.number(0.0) if p.rng.random() < 0.5 else x], x.shape)
    p.op("Cast", [seen], x.shape, to=TensorProto.FLOAT)


def _cast(p: ProbeBuilder, x: Tensor) -> None:
    kind = p.rng.choice((_INT64, _INT32, TensorProto.FLOAT16, TensorProto.DOUBLE))
    y = p.op("Cast", [x], x.shape, kind, to=kind)
    if kind in (_INT64, _INT32):
        other = p.constant(np.array(3, np.int64 if kind == _INT64 else np.int32))
        y = p.op(p.rng.choice(("Add", "Mul", "Sub", "Div")), [y, other], x.shape, kind)
    p.op("Cast", [y], x.shape, to=TensorProto.FLOAT)


def _reduced(p: ProbeBuilder, x: Tensor) -> None:
    op_type = p.rng.choice(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd"))
    begin = p.rng.randrange(len(x.shape))
    axes = list(range(begin, p.rng.randrange(begin, len(x.shape)) + 1))
    keep = p.rng.choice((0, 1))
    shape = [1 if i in axes else size for i, size in enumerate(x.shape) if keep or i not in axes]
    if op_type == "ReduceSum":
        p.op(op_type, [x, p.constant(np.array(axes, np.int64))], shape, keepdims=keep)
    else:
        p.op(op_type, [x], shape, axes=axes, keepdims=keep)


def _normalised(p: ProbeBuilder, x: Tensor) -> None:
    softmax(p, x, p.rng.choice((-1, -1, -1, 1)))
    p.op("LogSoftmax", [x], x.shape, axis=-1)
    p.op("LayerNormalization", [x, p.weight(x.shape[-1]), p.weight(x.shape[-1])], x.shape, axis=-1)


def _permuted(p: ProbeBuilder, x: Tensor) -> None:
    order = list(range(len(x.shape)))
    p.rng.shuffle(order)
    permute(p, x, *order)
    permute(p, x, *range(1, len(x.shape)), 0)
    if len(x.shape) > 2:
        permute(p, x, *range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2)


def _joined(p: ProbeBuilder, x: Tensor) -> None:
    axis = p.rng.randrange(len(x.shape))
    concat(p, [x, *(p.op("Abs", [x], x.shape) for _ in range(p.rng.choice((1, 1, 2, 3))))], axis)


def _parted(p: ProbeBuilder, x: Tensor) -> None:
    axis = p.rng.randrange(len(x.shape))
    size = x.shape[axis]
    if size > 1:
        slice_(p, x, axis, 0, size, 2) if p.rng.random() < 0.4 else slice_(p, x, axis, 1, size)
    n = next((n for n in (4, 3, 2) if size % n == 0), 0)
    if n:
        split(p, x, n, axis)


def _expanded(p: ProbeBuilder, x: Tensor) -> None:
    if x.size > 2**18:
        return
    wide = (p.rng.choice((2, 4, 8)), *x.shape)
    p.op("Expand", [x, p.constant(np.array(wide, np.int64))], wide)
    axis, times = p.rng.randrange(len(x.shape)), p.rng.choice((2, 4))
    shape = [size * times if i == axis else size for i, size in enumerate(x.shape)]
    repeats = [times if i == axis else 1 for i in range(len(shape))]
    p.op("Tile", [x, p.constant(np.array(repeats, np.int64))], shape)
    pads = [p.rng.choice((0, 1, 2)) for _ in range(2 * len(x.shape))]
    shape = [size + pads[i] + pads[i + len(x.shape)] for i, size in enumerate(x.shape)]
    p.op("Pad", [x, p.constant(np.array(pads, np.int64))], shape)


def _gathered(p: ProbeBuilder, x: Tensor) -> None:
    axis = p.rng.randrange(len(x.shape))
    n = p.rng.choice((1, x.shape[axis], max(x.shape[axis] // 2, 1)))
    numbers = p.constant(np.random.default_rng(n).integers(0, x.shape[axis], n))
    p.op("Gather", [x, numbers], [n if i == axis else size for i, size in enumerate(x.shape)], axis=axis)
    first = p.op("Cast", [p.op("Mul", [x, p.number(0.0)], x.shape)], x.shape, _INT64, to=_INT64)
    p.op("GatherElements", [x, first], x.shape, axis=axis)


def _best(p: ProbeBuilder, x: Tensor) -> None:
    if x.size > 2**17:
        return
    row = x.size
    flat = reshape(p, x, 1, row)
    n = min(row, p.rng.choice((1, 10, 100, 300, 1000)))
    _, places = p.ops("TopK", [flat, p.constant(np.array([n], np.int64))], [(1, n), (1, n)], axis=1)
    places.kind = _INT64
    p.op("ArgMax", [x], (*x.shape[:-1], 1), _INT64, axis=-1, keepdims=1)
    p.op("CumSum", [x, p.constant(np.array(-1, np.int64))], x.shape)


def _counted(p: ProbeBuilder, x: Tensor) -> None:
    if x.size > 2**17:
        return
    seen = p.op("Greater", [x, p.number(0.3)], x.shape, _BOOL)
    p.op("NonZero", [seen], (len(x.shape), 1), _INT64)


def _suppressed(p: ProbeBuilder, x: Tensor) -> None:
    n = p.rng.choice((16, 64, 256, 1000))
    corner = p.op("Abs", [p.input(1, n, 2)], (1, n, 2))
    boxes = concat(p, [corner, add(p, corner, p.number(1.0))], 2)
    scores = p.op("Sigmoid", [p.input(1, 1, n)], (1, 1, n))
    most = p.constant(np.array([p.rng.choice((20, 100, 200))], np.int64))
    limits = [p.constant(np.array([value], np.float32)) for value in (0.5, 0.05)]
    p.op("NonMaxSuppression", [boxes, scores, most, *limits], (1, 3), _INT64)


def _scattered(p: ProbeBuilder, x: Tensor) -> None:
    if x.shape[0] < 2 or x.size > 2**19:
        return
    n = max(x.shape[0] // 2, 1)
    rows = p.constant(np.arange(n, dtype=np.int64)[:, None])
    part = slice_(p, x, 0, 0, n)
    p.op("ScatterND", [x, rows, part], x.shape)


def _multiplied(p: ProbeBuilder, x: Tensor) -> None:
    batch = p.rng.choice((1, 1, 3, 8, 12))
    m, k, n = (int(2 ** p.rng.uniform(0, 8.5)) for _ in range(3))
    a, b = (p.op("Relu", [p.input(batch, *shape)], (batch, *shape)) for shape in ((m, k), (k, n)))
    matmul(p, a, b)
    wide = p.rng.choice((64, 256, 512, 1000, 1024, 2048))
    flat = p.op("Relu", [p.input(1, wide)], (1, wide))
    outputs = p.rng.choice((10, 100, 256, 1000, 2048))
    p.op("Gemm", [flat, p.weight(outputs, wide), p.weight(outputs)], (1, outputs), transB=1)


def _gates(p: ProbeBuilder, x: Tensor) -> None:
    """What follows a pool: short vectors, where a node costs what it costs to begin one."""
    width = p.rng.choice((8, 32, 128, 512, 1024))
    y = p.op("Sigmoid", [p.input(1, width, 1, 1)], (1, width, 1, 1))
    side = p.rng.choice((1, 4, 7, 14, 28, 56))
    mul(p, p.op("Relu", [p.input(1, width, side, side)], (1, width, side, side)), y)


def _resized(p: ProbeBuilder, x: Tensor) -> None:
    if len(x.shape) != 4 or x.size > 2**18:
        return
    n, width, h, w = x.shape
    shape = (n, width, 2 * h, 2 * w)
    scales = p.constant(np.array([1, 1, 2, 2], np.float32))
    for mode, transform in (("nearest", "asymmetric"), ("linear", "half_pixel"), ("linear", "align_corners")):
        p.op("Resize", [x, "", scales], shape, mode=mode, coordinate_transformation_mode=transform)
    p.op("BatchNormalization", [x, *(p.weight(width) for _ in range(4))], x.shape)


def _numbers(p: ProbeBuilder, x: Tensor) -> None:
    """Whole numbers, as detectors and tables of positions have them."""
    if x.size > 2**17:
        return
    y = p.op("Cast", [x], x.shape, _INT64, to=_INT64)
    axis = p.rng.randrange(len(x.shape))
    size = x.shape[axis]
    slice_(p, y, axis, 0, max(size // 2, 1))
    p.op("Equal", [y, p.constant(np.array(1, np.int64))], x.shape, _BOOL)
    p.op("Less", [y, p.constant(np.array(1, np.int64))], x.shape, _BOOL)
    concat(p, [y, p.op("Add", [y, y], x.shape, _INT64)], axis)
    picked = p.constant(np.random.default_rng(size).integers(0, size, max(size // 2, 1)))
    shape = [max(size // 2, 1) if i == axis else side for i, side in enumerate(x.shape)]
    p.op("Gather", [y, picked], shape, _INT64, axis=axis)
    p.op(
        "GatherND",
        [x, p.constant(np.zeros((max(x.shape[0] // 2, 1), 1), np.int64))],
        (max(x.shape[0] // 2, 1), *x.shape[1:]),
    )
    p.op("ReduceMin", [y], (), _INT64, keepdims=0)


#: Drawn alike; the two that all networks have most of stand here twice.
_OPERATORS: tuple[Callable[[ProbeBuilder, Tensor], None], ...] = (
    _unary,
    _unary,
    _binary,
    _binary,
    _compared,
    _cast,
    _reduced,
    _normalised,
    _permuted,
    _joined,
    _parted,
    _expanded,
    _gathered,
    _best,
    _counted,
    _suppressed,
    _scattered,
    _multiplied,
    _gates,
    _resized,
    _numbers,
)
