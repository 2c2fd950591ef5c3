"""Random networks over images and sounds: stages of the blocks that published networks are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnx_ghn.properties.machine.probe import ProbeBuilder, Tensor
from onnx_ghn.properties.machine.probe_layers import (
    activation,
    add,
    concat,
    conv,
    global_mean,
    layer_norm,
    linear,
    mul,
    permute,
    pool,
    reshape,
    slice_,
    softmax,
    split,
)
from onnx_ghn.properties.machine.probe_tokens import attention

__all__ = ["IMAGE_BLOCKS", "image_network", "sound_network"]

_SIDES = (224, 224, 224, 256, 192, 160, 320, 384, 128, 96, 64, 32, 300)
_ODD_SHARE = 0.15  # of widths that are no multiple of 8


def image_network(p: ProbeBuilder, most_macs: float) -> None:
    """A part of a network, or a whole small one: it begins at a drawn depth."""
    rng = p.rng
    side = rng.choice(_SIDES)
    depth = rng.choice((0, 0, 1, 2, 3, 4, 5))  # of halvings before it begins
    batch = rng.choice((1,) * 8 + (2, 4))
    if depth == 0:
        x = p.input(batch, rng.choice((3, 3, 3, 1)), side, side)
        width = rng.choice((16, 24, 32, 32, 40, 48, 64, 64, 96))
        kernel, stride = rng.choice(((3, 2), (3, 2), (7, 2), (4, 4), (3, 1), (11, 4), (5, 2), (16, 16)))
        x = activation(p, conv(p, x, width, kernel, stride))
        if rng.random() < 0.3:
            x = pool(p, x)
    else:
        places = max(side >> depth, 2)
        x = p.input(batch, _width(p, depth), places, places)
        x = activation(p, conv(p, x, x.shape[1], 1), "relu")
    act = rng.choice(("relu", "relu", "relu", "relu6", "silu", "silu", "hardswish", "gelu", "leaky", "mixed"))
    names = list(IMAGE_BLOCKS)
    weights = [IMAGE_BLOCKS[name][1] for name in names]
    while p.n_macs < most_macs and p.n_nodes < 220:
        name = rng.choices(names, weights)[0]
        block = IMAGE_BLOCKS[name][0]
        for _ in range(rng.choice((1, 1, 2, 3))):
            if p.n_macs < most_macs:
                x = block(p, x, activation_name(p, act))
        if min(x.shape[2:]) > 4 and rng.random() < 0.5:
            x = _smaller(p, x, activation_name(p, act))
        if p.n_nodes > 30 and rng.random() < 0.12:
            break
    if rng.random() < 0.5:
        y = reshape(p, global_mean(p, x), batch, x.shape[1])
        hidden = rng.choice((0, 0, 1024, 1280, 4096))
        if hidden and x.shape[1] >= 64:
            y = activation(p, linear(p, y, hidden), act if act != "mixed" else "relu")
        softmax(p, linear(p, y, rng.choice((10, 100, 1000, 1000, 21))))


def activation_name(p: ProbeBuilder, name: str) -> str | None:
    """None: drawn anew each time."""
    return None if name == "mixed" else name


def _width(p: ProbeBuilder, depth: int) -> int:
    base = {1: 32, 2: 64, 3: 128, 4: 224, 5: 400}[depth]
    width = int(base * 2 ** p.rng.uniform(-1.3, 1.3))
    return max(width, 8) if p.rng.random() < _ODD_SHARE else max(width // 8, 1) * 8


def _smaller(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    wider = min(int(x.shape[1] * p.rng.choice((1, 1.5, 2, 2))) // 8 * 8 or 8, 1536)
    kind = p.rng.random()
    if kind < 0.3:
        return pool(p, x, p.rng.choice(("MaxPool", "MaxPool", "AveragePool")), p.rng.choice((2, 3)), 2)
    if kind < 0.6:
        y = activation(p, conv(p, x, x.shape[1], p.rng.choice((3, 5)), 2, group=x.shape[1]), act)
        return conv(p, y, wider, 1)
    return activation(p, conv(p, x, wider, p.rng.choice((1, 2, 3, 3)), 2), act)


def _basic(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    y = activation(p, conv(p, x, x.shape[1], 3), act)
    return activation(p, add(p, conv(p, y, x.shape[1], 3), x), act)


def _plain(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    return activation(p, conv(p, x, x.shape[1], p.rng.choice((1, 3, 3)), dilation=p.rng.choice((1, 1, 1, 1, 2))), act)


def _bottleneck(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    inner = max(x.shape[1] // p.rng.choice((1, 2, 4, 4)) // 8 * 8, 8)
    groups = [g for g in (1, 1, 1, 2, 4, 8, 16, 32) if inner % g == 0 and inner // g >= 4]
    y = activation(p, conv(p, x, inner, 1), act)
    y = activation(p, conv(p, y, inner, 3, group=p.rng.choice(groups)), act)
    y = _gate(p, y) if p.rng.random() < 0.25 else y
    return activation(p, add(p, conv(p, y, x.shape[1], 1), x), act)


def _grouped(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    """As in ResNeXt and RegNet: groups of a few channels, which the blocked layout takes from 16 on."""
    size = p.rng.choice((2, 4, 4, 8, 8, 16, 16, 24, 32, 40, 56, 64))
    inner = max(x.shape[1] // size, 2) * size
    y = activation(p, conv(p, x, inner, 1), act)
    y = activation(p, conv(p, y, inner, p.rng.choice((3, 3, 5)), group=inner // size), act)
    return activation(p, add(p, conv(p, y, x.shape[1], 1), x), act)


def _gate(p: ProbeBuilder, x: Tensor) -> Tensor:
    inner = max(x.shape[1] // p.rng.choice((4, 8, 16)), 4)
    y = conv(p, activation(p, conv(p, global_mean(p, x), inner, 1), p.rng.choice(("relu", "silu"))), x.shape[1], 1)
    return mul(p, x, activation(p, y, p.rng.choice(("sigmoid", "sigmoid", "hardsigmoid"))))


def _inverted(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    inner = max(int(x.shape[1] * p.rng.choice((1, 2, 3, 4, 6, 6))) // 8 * 8, 8)
    y = activation(p, conv(p, x, inner, 1), act)
    y = activation(p, conv(p, y, inner, p.rng.choice((3, 3, 3, 5, 5, 7)), group=inner), act)
    y = _gate(p, y) if p.rng.random() < 0.4 else y
    return add(p, conv(p, y, x.shape[1], 1), x)


def _dense(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    y = activation(p, mul(p, x, p.weight(1, x.shape[1], 1, 1)), "relu")
    y = activation(p, conv(p, y, 4 * 32, 1), "relu")
    return concat(p, [x, conv(p, y, p.rng.choice((16, 32, 48)), 3)], 1)


def _channels_last(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    y = permute(p, conv(p, x, x.shape[1], p.rng.choice((7, 7, 3, 5)), group=x.shape[1]), 0, 2, 3, 1)
    y = activation(p, linear(p, layer_norm(p, y), x.shape[1] * p.rng.choice((2, 3, 4, 4))), "gelu")
    y = linear(p, y, x.shape[1])
    y = mul(p, y, p.weight(x.shape[1])) if p.rng.random() < 0.5 else y
    return add(p, permute(p, y, 0, 3, 1, 2), x)


def _shuffled(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    n, width, h, w = x.shape
    if width % 4:
        return _plain(p, x, act)
    first, second = (
        split(p, x, 2, 1)
        if p.rng.random() < 0.6
        else (
            slice_(p, x, 1, 0, width // 2),
            slice_(p, x, 1, width // 2, width),
        )
    )
    y = activation(p, conv(p, second, width // 2, 1), "relu")
    y = activation(p, conv(p, conv(p, y, width // 2, 3, group=width // 2), width // 2, 1), "relu")
    y = reshape(p, concat(p, [first, y], 1), n, 2, width // 2, h, w)
    return reshape(p, permute(p, y, 0, 2, 1, 3, 4), n, width, h, w)


def _ghost(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    half = max(x.shape[1] // 2, 1)
    y = activation(p, conv(p, x, half, 1), act)
    y = concat(p, [y, activation(p, conv(p, y, half, 3, group=half), act)], 1)
    return add(p, y, x) if y.shape == x.shape else y


def _branches(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    width = max(x.shape[1] // 4 // 8 * 8, 8)
    parts = [activation(p, conv(p, x, width, 1), act)]
    parts.append(activation(p, conv(p, activation(p, conv(p, x, width, 1), act), width, 3), act))
    parts.append(activation(p, conv(p, conv(p, x, width, (1, 7)), width, (7, 1)), act))
    parts.append(activation(p, conv(p, pool(p, x, "MaxPool", 3, 1), width, 1), act))
    return concat(p, parts, 1)


def _large_kernels(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    width = x.shape[1] // 4
    if width < 2 or x.shape[1] % 4:
        return _inverted(p, x, act)
    parts = split(p, x, 4, 1)
    for number, kernel in enumerate(((3, 3), (1, 11), (11, 1)), start=1):
        parts[number] = conv(p, parts[number], width, kernel, group=width)
    y = concat(p, parts, 1)
    return add(p, conv(p, activation(p, conv(p, y, 3 * x.shape[1], 1), "gelu"), x.shape[1], 1), x)


def _summed_branches(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    y = add(p, conv(p, x, x.shape[1], 3, group=x.shape[1]), conv(p, x, x.shape[1], 1, group=x.shape[1]))
    y = activation(p, add(p, y, mul(p, x, p.weight(1, x.shape[1], 1, 1))), act)
    return activation(p, add(p, conv(p, y, x.shape[1], 1), conv(p, y, x.shape[1], 1)), act)


def _pooled(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    y = p.op("Sub", [pool(p, x, "AveragePool", 3, 1), x], x.shape)
    x = add(p, x, mul(p, y, p.weight(x.shape[1], 1, 1)))
    y = conv(p, activation(p, conv(p, _group_norm(p, x), 4 * x.shape[1], 1), "gelu"), x.shape[1], 1)
    return add(p, x, mul(p, y, p.weight(x.shape[1], 1, 1)))


def _group_norm(p: ProbeBuilder, x: Tensor) -> Tensor:
    n, width, h, w = x.shape
    n_groups = p.rng.choice([g for g in (1, 1, 8, 32) if width % g == 0])
    y = reshape(p, x, n, n_groups, -1)
    y.shape = (n, n_groups, x.size // n // n_groups)
    y = p.op("InstanceNormalization", [y, p.weight(n_groups), p.weight(n_groups)], y.shape)
    y = reshape(p, y, n, width, h, w)
    return add(p, mul(p, y, p.weight(width, 1, 1)), p.weight(width, 1, 1))


def _star(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    y = conv(p, x, x.shape[1], 7, group=x.shape[1])
    wide = 3 * x.shape[1]
    y = mul(p, activation(p, conv(p, y, wide, 1), "relu6"), conv(p, y, wide, 1))
    return add(p, conv(p, conv(p, y, x.shape[1], 1), x.shape[1], 7, group=x.shape[1]), x)


def _upsampled(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    n, width, h, w = x.shape
    if max(h, w) > 80:
        return _plain(p, x, act)
    mode = p.rng.choice(("nearest", "nearest", "linear"))
    scales = p.constant(np.array([1, 1, 2, 2], np.float32))
    transform = "asymmetric" if mode == "nearest" else "half_pixel"
    y = conv(p, x, max(width // 2 // 8 * 8, 8), 1)
    extra: dict[str, Any] = {"nearest_mode": "floor"} if mode == "nearest" else {}
    y = p.op(
        "Resize",
        [y, "", scales],
        (n, y.shape[1], 2 * h, 2 * w),
        mode=mode,
        coordinate_transformation_mode=transform,
        **extra,
    )
    return activation(p, conv(p, concat(p, [y, conv(p, y, y.shape[1], 3)], 1), y.shape[1], 1), act)


def _attended(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    n, width, h, w = x.shape
    if h * w > 1024 or width % 8:
        return _inverted(p, x, act)
    y = permute(p, reshape(p, x, n, width, h * w), 0, 2, 1)
    y = add(p, y, attention(p, layer_norm(p, y), p.rng.choice((1, 2, 4, 8)), False))
    return reshape(p, permute(p, y, 0, 2, 1), n, width, h, w)


def _selected(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    n, width, h, w = x.shape
    parts = [activation(p, conv(p, x, width, 3, dilation=d), "relu") for d in (1, 2)]
    y = p.op("ReduceSum", [_stacked(p, parts), p.constant(np.array([1], np.int64))], (n, width, h, w), keepdims=0)
    y = conv(p, activation(p, conv(p, global_mean(p, y), max(width // 8, 8), 1), "relu"), 2 * width, 1)
    gates = split(p, softmax(p, reshape(p, y, n, 2, width, 1, 1), 1), 2, 1)
    return add(p, *(mul(p, part, reshape(p, gate, n, width, 1, 1)) for part, gate in zip(parts, gates, strict=True)))


def _stacked(p: ProbeBuilder, parts: list[Tensor]) -> Tensor:
    axis = p.constant(np.array([1], np.int64))
    wide = [p.op("Unsqueeze", [part, axis], (part.shape[0], 1, *part.shape[1:])) for part in parts]
    return concat(p, wide, 1)


def _padded(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    n, width, h, w = x.shape
    pads = p.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    y = p.op("Pad", [x, pads], (n, width, h + 2, w + 2), mode=p.rng.choice(("constant", "reflect", "edge")))
    y = slice_(p, y, 2, 1, h + 1)
    return activation(p, conv(p, slice_(p, y, 3, 1, w + 1), width, 1), act)


def _transposed(p: ProbeBuilder, x: Tensor, act: str | None) -> Tensor:
    n, width, h, w = x.shape
    if max(h, w) > 64:
        return _plain(p, x, act)
    half = max(width // 2, 1)
    p.n_macs += x.size * half * 4
    y = p.op(
        "ConvTranspose",
        [x, p.weight(width, half, 2, 2), p.weight(half)],
        (n, half, 2 * h, 2 * w),
        kernel_shape=[2, 2],
        strides=[2, 2],
    )
    return activation(p, conv(p, y, half, 3), act)


Block = Callable[[ProbeBuilder, Tensor, str | None], Tensor]
#: Blocks, and how often each is drawn.
IMAGE_BLOCKS: dict[str, tuple[Block, float]] = {
    "basic": (_basic, 3),
    "plain": (_plain, 2),
    "bottleneck": (_bottleneck, 4),
    "grouped": (_grouped, 2),
    "inverted": (_inverted, 5),
    "dense": (_dense, 2),
    "channels last": (_channels_last, 2),
    "shuffled": (_shuffled, 1.5),
    "ghost": (_ghost, 1.5),
    "branches": (_branches, 1),
    "large kernels": (_large_kernels, 1),
    "summed branches": (_summed_branches, 1),
    "pooled": (_pooled, 1),
    "star": (_star, 0.7),
    "upsampled": (_upsampled, 0.7),
    "attended": (_attended, 0.7),
    "selected": (_selected, 0.5),
    "padded": (_padded, 0.5),
    "transposed": (_transposed, 0.3),
}


def sound_network(p: ProbeBuilder, most_macs: float) -> None:
    """Convolutions over a wave or a spectrum, then a recurrence."""
    rng = p.rng
    if rng.random() < 0.7:
        x = p.input(1, rng.choice((1, 1, 40, 64, 80, 128)), int(2 ** rng.uniform(6, 14.5)))
        stride = rng.choice((1, 2, 4, 5)) if x.shape[2] > 512 else 1
        x = activation(p, conv(p, x, rng.choice((32, 64, 128, 256, 384)), rng.choice((3, 5, 9, 10, 80)), stride))
        while p.n_macs < most_macs and p.n_nodes < 60 and x.shape[2] > 8:
            group = x.shape[1] if rng.random() < 0.25 else rng.choice((1, 1, 1, 4, 16))
            group = group if x.shape[1] % group == 0 else 1
            kernel = rng.choice((1, 3, 3, 5, 9, 31, 63) if group > 1 else (1, 3, 3, 5, 9))
            width = x.shape[1] if group > 1 else rng.choice((64, 128, 192, 256, 384, 512))
            x = activation(p, conv(p, x, width, kernel, rng.choice((1, 1, 2)), group))
            if rng.random() < 0.25 and x.shape[2] > 16:
                x = pool(p, x, "MaxPool", rng.choice((3, 5)), rng.choice((2, 4)))
            if rng.random() < 0.2:
                x = permute(p, layer_norm(p, permute(p, x, 0, 2, 1)), 0, 2, 1)
            if rng.random() < 0.15:
                break
    else:
        frames, mels = rng.choice((32, 64, 100, 200, 400)), rng.choice((40, 64, 80))
        x = p.input(1, 1, frames, mels)
        for width in (16, 32, 64)[: rng.choice((1, 2, 3))]:
            x = pool(p, activation(p, conv(p, x, width, 3), "relu"), "MaxPool", 2, 2)
        n, width, frames, mels = x.shape
        x = reshape(p, permute(p, x, 0, 1, 3, 2), n, width * mels, frames)
    if x.shape[2] <= 512 and rng.random() < 0.7:
        recurrent(p, permute(p, x, 2, 0, 1))


def recurrent(p: ProbeBuilder, x: Tensor) -> Tensor:
    """Layers of LSTM, GRU or RNN: (sequence, batch, width)."""
    rng = p.rng
    op_type = rng.choice(("LSTM", "LSTM", "GRU", "GRU", "RNN"))
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op_type]
    hidden, directions = int(2 ** rng.uniform(4.5, 9)) // 8 * 8, rng.choice((1, 2))
    for _ in range(rng.choice((1, 2, 3))):
        length, batch, width = x.shape
        p.n_macs += length * batch * directions * gates * hidden * (width + hidden)
        weights = [p.weight(directions, gates * hidden, size) for size in (width, hidden)]
        biases = p.weight(directions, 2 * gates * hidden)
        extra: dict[str, Any] = {"linear_before_reset": 1} if op_type == "GRU" else {}
        x = p.op(
            op_type,
            [x, *weights, biases],
            (length, directions, batch, hidden),
            hidden_size=hidden,
            direction="bidirectional" if directions == 2 else "forward",
            **extra,
        )
        if directions == 2:
            x = permute(p, x, 0, 2, 1, 3)
        x = reshape(p, x, length, batch, directions * hidden)
        if p.n_macs > 1e9:
            break
    return x
