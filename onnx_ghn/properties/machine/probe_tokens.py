"""Random networks over tokens: transformers as exporters write them, windows of pixels, mixers."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from onnx_ghn.properties.machine.probe import ProbeBuilder, Tensor
from onnx_ghn.properties.machine.probe_layers import (
    activation,
    add,
    concat,
    layer_norm,
    linear,
    matmul,
    mul,
    permute,
    reshape,
    slice_,
    softmax,
    split,
)

__all__ = ["attention", "token_network"]

_LENGTHS = (1, 4, 8, 16, 24, 32, 48, 64, 100, 128, 128, 197, 197, 256, 384, 512)


def token_network(p: ProbeBuilder, most_macs: float) -> None:
    """Layers of a transformer, of windows, or of a mixer."""
    rng = p.rng
    width = rng.choice((64, 96, 128, 192, 192, 256, 320, 384, 384, 512, 768, 768, 1024))
    head = rng.choice([size for size in (16, 32, 64, 64) if width % size == 0])
    norm = rng.choice(("layer", "layer", "layer", "rms"))
    act = rng.choice(("gelu", "gelu", "gelu_tanh", "relu", "silu"))
    kind = rng.choice(("plain", "plain", "plain", "windows", "mixer"))
    if kind == "windows":
        side = rng.choice((7, 8, 14, 28, 56))
        x = p.input(1, side * side, width)
    else:
        x = _embedded(p, rng.choice((1,) * 8 + (2, 4)), rng.choice(_LENGTHS), width)
    mask = _mask(p, x.shape[1]) if kind == "plain" and rng.random() < 0.5 else None
    first = rng.random() < 0.6
    while p.n_macs < most_macs and p.n_nodes < 300:
        for inner in ("mix", "feed"):
            y = layer_norm(p, x, norm) if first else x
            if inner == "feed":
                y = _feed_forward(p, y, act, gated=norm == "rms")
            elif kind == "mixer":
                y = permute(p, linear(p, permute(p, y, 0, 2, 1), x.shape[1]), 0, 2, 1)
            elif kind == "windows":
                y = _windows(p, y, side, width // head)
            else:
                y = attention(p, y, width // head, norm == "rms", mask)
            x = add(p, x, y)
            x = x if first else layer_norm(p, x, norm)
        if p.n_nodes > 40 and rng.random() < 0.2:
            break
    if rng.random() < 0.5:
        picked = rng.random() < 0.6
        y = _first_token(p, x) if picked else x
        linear(p, y, rng.choice((2, 10, 1000, 8000) if picked else (100, 1000)), bias=rng.random() < 0.6)


def _embedded(p: ProbeBuilder, batch: int, length: int, width: int) -> Tensor:
    """Rows of a table, picked by numbers that are computed from the input, and their places."""
    if p.rng.random() < 0.4:
        return p.input(batch, length, width)
    x = p.input(batch, length)
    n_rows = p.rng.choice((500, 4000, 16000))
    numbers = p.op("Cast", [p.op("Abs", [x], x.shape)], x.shape, TensorProto.INT64, to=TensorProto.INT64)
    table = p.weight(n_rows, width)
    y = p.op("Gather", [table, numbers], (batch, length, width))
    return add(p, y, p.weight(1, length, width)) if length > 1 else y


def _mask(p: ProbeBuilder, length: int) -> Tensor:
    """Numbers added to scores: (1, 1, 1, length) or (1, 1, length, length)."""
    rows = p.rng.choice((1, length))
    x = p.input(1, 1, rows, length)
    seen = p.op("Greater", [x, p.number(5.0)], x.shape, TensorProto.BOOL)
    return p.op("Where", [seen, p.number(-1e4), p.number(0.0)], x.shape)


def attention(p: ProbeBuilder, x: Tensor, heads: int, rotary: bool, mask: Tensor | None = None) -> Tensor:
    """Multi-head attention in the ways that exporters write it."""
    n, length, width = x.shape
    heads = heads if width % heads == 0 else 1
    size = width // heads
    if p.rng.random() < 0.4:
        y = permute(p, reshape(p, linear(p, x, 3 * width), n, length, 3, heads, size), 2, 0, 3, 1, 4)
        parts = split(p, y, 3, 0)
        axis = p.constant(np.array([0], np.int64))
        q, k, v = (p.op("Squeeze", [part, axis], part.shape[1:]) for part in parts)
        k = permute(p, k, 0, 1, 3, 2)
        if p.rng.random() >= 0.5:
            q = mul(p, q, p.number(size**-0.5))
    else:
        q, k, v = (reshape(p, linear(p, x, width), n, length, heads, size) for _ in range(3))
        q, v = (permute(p, part, 0, 2, 1, 3) for part in (q, v))
        if rotary:
            k = permute(p, k, 0, 2, 1, 3)
            q, k = _rotated(p, q), _rotated(p, k)
            k = permute(p, k, 0, 1, 3, 2)
        else:
            k = permute(p, k, 0, 2, 3, 1)
    scores = matmul(p, q, k)
    if p.rng.random() < 0.7:
        scores = p.op("Div", [scores, p.number(size**0.5)], scores.shape)
    if mask is not None:
        scores = add(p, scores, mask)
    y = matmul(p, softmax(p, scores), v)
    return linear(p, reshape(p, permute(p, y, 0, 2, 1, 3), n, length, width), width)


def _rotated(p: ProbeBuilder, x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    turned = p.op("Neg", [slice_(p, x, 3, half, 2 * half)], (*x.shape[:-1], half))
    y = concat(p, [turned, slice_(p, x, 3, 0, half)], 3)
    return add(p, mul(p, x, p.weight(1, 1, *x.shape[2:])), mul(p, y, p.weight(1, 1, *x.shape[2:])))


def _feed_forward(p: ProbeBuilder, x: Tensor, act: str, gated: bool) -> Tensor:
    inner = int(x.shape[-1] * p.rng.choice((2, 3, 4, 4)))
    y = activation(p, linear(p, x, inner, bias=not gated), act)
    y = mul(p, y, linear(p, x, inner, bias=False)) if gated else y
    return linear(p, y, x.shape[-1], bias=not gated)


def _windows(p: ProbeBuilder, x: Tensor, side: int, heads: int) -> Tensor:
    """Attention within windows of 7 × 7 or 8 × 8, shifted now and then."""
    n, _, width = x.shape
    window = 8 if side == 8 else 7
    grid = side // window
    y = reshape(p, x, n, side, side, width)
    if p.rng.random() < 0.5 and grid > 1:
        for axis in (1, 2):
            y = concat(p, [slice_(p, y, axis, 3, side), slice_(p, y, axis, 0, 3)], axis)
    y = permute(p, reshape(p, y, n, grid, window, grid, window, width), 0, 1, 3, 2, 4, 5)
    y = attention(p, reshape(p, y, n * grid * grid, window * window, width), heads, False)
    y = permute(p, reshape(p, y, n, grid, grid, window, window, width), 0, 1, 3, 2, 4, 5)
    return reshape(p, y, n, side * side, width)


def _first_token(p: ProbeBuilder, x: Tensor) -> Tensor:
    return p.op("Gather", [x, p.constant(np.array(0, np.int64))], (x.shape[0], x.shape[2]), axis=1)
