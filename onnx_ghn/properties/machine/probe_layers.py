"""Layers of probes: each adds the nodes that exporters write for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnx_ghn.properties.machine.probe import ProbeBuilder, Tensor

__all__ = [
    "activation",
    "add",
    "concat",
    "conv",
    "global_mean",
    "layer_norm",
    "linear",
    "matmul",
    "mul",
    "permute",
    "pool",
    "reshape",
    "slice_",
    "softmax",
    "split",
]

#: Weighted by how often networks have them.
_ACTIVATIONS: tuple[str, ...] = ("relu",) * 6 + ("relu6",) * 3 + ("silu",) * 4 + ("hardswish",) * 3 + ("gelu",) * 3
_ACTIVATIONS += ("gelu_tanh", "sigmoid", "leaky", "hardsigmoid", "tanh", "prelu", "elu", "none", "none", "none")


def conv(
    p: ProbeBuilder,
    x: Tensor,
    n_out: int,
    kernel: int | Sequence[int] = 3,
    stride: int = 1,
    group: int = 1,
    dilation: int = 1,
) -> Tensor:
    """A convolution with a bias, padded to keep its places; of one or two dimensions, as its input is."""
    n, n_in, *places = x.shape
    kernels = [kernel] * len(places) if isinstance(kernel, int) else list(kernel)
    pads = [dilation * (k - 1) // 2 for k in kernels]
    sizes = [
        (size + 2 * pad - dilation * (k - 1) - 1) // stride + 1
        for size, pad, k in zip(places, pads, kernels, strict=True)
    ]
    p.n_macs += n * n_out * math.prod(sizes) * (n_in // group) * math.prod(kernels)
    inputs: list[Tensor | str] = [x, p.weight(n_out, n_in // group, *kernels), p.weight(n_out)]
    return p.op(
        "Conv",
        inputs,
        (n, n_out, *sizes),
        kernel_shape=kernels,
        pads=[*pads, *pads],
        strides=[stride] * len(places),
        group=group,
        dilations=[dilation] * len(places),
    )


def activation(p: ProbeBuilder, x: Tensor, kind: str | None = None) -> Tensor:
    """An activation by name, or one that is drawn."""
    kind = kind or p.rng.choice(_ACTIVATIONS)
    plain = {"relu": "Relu", "hardswish": "HardSwish", "sigmoid": "Sigmoid", "tanh": "Tanh", "leaky": "LeakyRelu"}
    plain |= {"hardsigmoid": "HardSigmoid", "elu": "Elu", "exp": "Exp", "softplus": "Softplus", "sqrt": "Sqrt"}
    plain |= {"neg": "Neg", "abs": "Abs", "erf": "Erf", "log": "Log", "sin": "Sin", "cos": "Cos", "not": "Not"}
    if kind in plain:
        return p.op(plain[kind], [x], x.shape)
    if kind == "relu6":
        return p.op("Clip", [x, p.number(0.0), p.number(6.0)], x.shape)
    if kind == "silu":
        return mul(p, x, p.op("Sigmoid", [x], x.shape))
    if kind == "prelu":
        return p.op("PRelu", [x, p.weight(x.shape[1] if len(x.shape) > 1 else 1, *(1,) * (len(x.shape) - 2))], x.shape)
    if kind == "gelu":
        inner = p.op("Erf", [p.op("Div", [x, p.number(math.sqrt(2))], x.shape)], x.shape)
        return _times(p, mul(p, x, p.op("Add", [inner, p.number(1.0)], x.shape)), 0.5)
    if kind == "gelu_tanh":
        cube = p.op("Pow", [x, p.number(3.0)], x.shape)
        inner = _times(p, add(p, x, _times(p, cube, 0.044715)), math.sqrt(2 / math.pi))
        outer = p.op("Add", [p.op("Tanh", [inner], x.shape), p.number(1.0)], x.shape)
        return mul(p, _times(p, x, 0.5), outer)
    return x


def _times(p: ProbeBuilder, x: Tensor, factor: float) -> Tensor:
    return p.op("Mul", [x, p.number(factor)], x.shape)


def add(p: ProbeBuilder, a: Tensor, b: Tensor | str) -> Tensor:
    """A sum; b may be smaller."""
    return p.op("Add", [a, b], a.shape)


def mul(p: ProbeBuilder, a: Tensor, b: Tensor | str) -> Tensor:
    """A product of elements; b may be smaller."""
    return p.op("Mul", [a, b], a.shape)


def concat(p: ProbeBuilder, parts: Sequence[Tensor], axis: int) -> Tensor:
    """Parts side by side."""
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    return p.op("Concat", parts, shape, parts[0].kind, axis=axis)


def split(p: ProbeBuilder, x: Tensor, n: int, axis: int) -> list[Tensor]:
    """Equal parts."""
    shape = list(x.shape)
    shape[axis] //= n
    return p.ops("Split", [x, p.constant(np.full(n, shape[axis], np.int64))], [shape] * n, x.kind, axis=axis)


def slice_(p: ProbeBuilder, x: Tensor, axis: int, begin: int, end: int, step: int = 1) -> Tensor:
    """A part along an axis."""
    shape = list(x.shape)
    shape[axis] = -(-(end - begin) // step)
    told = [p.constant(np.array([value], np.int64)) for value in (begin, end, axis, step)]
    return p.op("Slice", [x, *told], shape, x.kind)


def reshape(p: ProbeBuilder, x: Tensor, *shape: int) -> Tensor:
    """Another view."""
    return p.op("Reshape", [x, p.constant(np.array(shape, np.int64))], shape, x.kind)


def permute(p: ProbeBuilder, x: Tensor, *order: int) -> Tensor:
    """A transposition."""
    return p.op("Transpose", [x], [x.shape[axis] for axis in order], x.kind, perm=list(order))


def linear(p: ProbeBuilder, x: Tensor, n_out: int, bias: bool = True) -> Tensor:
    """A linear layer over the last axis, as exporters write it: MatMul and Add; Gemm for a matrix, now and then."""
    n_in = x.shape[-1]
    p.n_macs += x.size * n_out
    if len(x.shape) == 2 and bias and p.rng.random() < 0.7:
        return p.op("Gemm", [x, p.weight(n_out, n_in), p.weight(n_out)], (x.shape[0], n_out), transB=1)
    y = p.op("MatMul", [x, p.weight(n_in, n_out)], (*x.shape[:-1], n_out))
    return p.op("Add", [p.weight(n_out), y], y.shape) if bias else y


def matmul(p: ProbeBuilder, a: Tensor, b: Tensor) -> Tensor:
    """A product of two computed matrices."""
    p.n_macs += a.size * b.shape[-1]
    return p.op("MatMul", [a, b], (*a.shape[:-1], b.shape[-1]))


def softmax(p: ProbeBuilder, x: Tensor, axis: int = -1) -> Tensor:
    """Softmax along an axis."""
    return p.op("Softmax", [x], x.shape, axis=axis)


def layer_norm(p: ProbeBuilder, x: Tensor, kind: str = "layer") -> Tensor:
    """A normalisation over the last axis: an operator, its decomposition, which onnxruntime joins, or of squares."""
    width = x.shape[-1]
    if kind == "layer" and p.rng.random() < 0.6:
        return p.op("LayerNormalization", [x, p.weight(width), p.weight(width)], x.shape, axis=-1, epsilon=1e-5)
    narrow = (*x.shape[:-1], 1)
    if kind == "rms":
        squares = p.op("ReduceMean", [p.op("Pow", [x, p.number(2.0)], x.shape)], narrow, axes=[-1], keepdims=1)
        root = p.op("Sqrt", [p.op("Add", [squares, p.number(1e-5)], narrow)], narrow)
        one = p.op("Div", [p.number(1.0), root], narrow)
        return p.op("Mul", [p.weight(width), mul(p, x, one)], x.shape)
    mean = p.op("ReduceMean", [x], narrow, axes=[-1], keepdims=1)
    centred = p.op("Sub", [x, mean], x.shape)
    power = p.op("Pow", [centred, p.number(2.0)], x.shape)
    variance = p.op("ReduceMean", [power], narrow, axes=[-1], keepdims=1)
    root = p.op("Sqrt", [p.op("Add", [variance, p.number(1e-5)], narrow)], narrow)
    return add(p, mul(p, p.op("Div", [centred, root], x.shape), p.weight(width)), p.weight(width))


def pool(p: ProbeBuilder, x: Tensor, kind: str = "MaxPool", kernel: int = 3, stride: int = 2) -> Tensor:
    """Pooling over places."""
    n, channels, *places = x.shape
    pad = kernel // 2
    sizes = [(size + 2 * pad - kernel) // stride + 1 for size in places]
    n_axes = len(places)
    return p.op(
        kind,
        [x],
        (n, channels, *sizes),
        kernel_shape=[kernel] * n_axes,
        strides=[stride] * n_axes,
        pads=[pad] * 2 * n_axes,
    )


def global_mean(p: ProbeBuilder, x: Tensor) -> Tensor:
    """The mean over places: (n, c, 1, 1)."""
    n, channels, *places = x.shape
    shape = (n, channels, *(1 for _ in places))
    if p.rng.random() < 0.3:
        return p.op("ReduceMean", [x], shape, axes=list(range(2, len(x.shape))), keepdims=1)
    return p.op("GlobalAveragePool", [x], shape)
