"""What the time of an operator depends on: its kind, and the logarithms of its sizes.

A kind is what onnxruntime has one algorithm for; within one, time is a smooth function of the sizes. Sizes are those
that the algorithm's loops run over, which is why a transpose has the length of the run that moves as a whole, and a
broadcast the length of what one number is added to. Of an operator that sums products, the last size is their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx_ghn.profiling.counts import VIEWS
from onnx_ghn.properties.machine.running import PRODUCTS, RunNode, Value

__all__ = ["kind_and_sizes"]

Sizes = tuple[float, ...]
Described = tuple[str, Sizes]

_PICKED = frozenset({"Concat", "Split", "Slice", "Gather", "GatherElements", "GatherND", "Pad", "Expand", "Tile"})
_PICKED |= {"ScatterND", "ScatterElements"}
_REDUCED = frozenset({"Softmax", "LogSoftmax", "LayerNormalization", "SkipLayerNormalization", "CumSum", "ArgMax"})
_REDUCED |= {"ArgMin", "RMSNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization", "TopK"}
_REDUCED |= {"InstanceNormalization", "GroupNormalization", "LpNormalization"}
_RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1}  # and their gates
_SPATIAL_LEAST = 3  # rank from which a value has places


def kind_and_sizes(node: RunNode) -> Described:
    """The kind of a node, and its sizes as base-two logarithms; nodes of a kind have as many."""
    op_type = node.op_type
    if op_type in ("Conv", "FusedConv", "ConvTranspose"):
        return _convolution(node)
    if op_type in PRODUCTS:
        return _product(node)
    if op_type in VIEWS:
        return "view", ()
    if op_type in ("ReorderInput", "ReorderOutput") or "Pool" in op_type or op_type in ("Resize", "Upsample"):
        return _window(node)
    if op_type == "Transpose":
        return _transposition(node)
    if op_type in _RECURRENT:
        return _recurrence(node)
    if op_type in _REDUCED or op_type.startswith("Reduce"):
        return _rows(node)
    if op_type in _PICKED:
        return _moved(node)
    if op_type == "Einsum":
        return op_type, (_log(_bytes(node.inputs)), _log(_bytes(node.outputs)))
    return _elementwise(node)


def _log(size: float) -> float:
    return math.log2(max(size, 1.0))


def _bytes(values: Sequence[Value | None]) -> int:
    return sum(value.n_bytes for value in values if value is not None)


def _first(values: Sequence[Value | None]) -> Value:
    return next((value for value in values if value is not None), Value("", (1,), 4, is_sized=False))


def _type(value: Value) -> str:
    """A suffix for elements that are not of four bytes, as another kernel runs."""
    return "" if value.item_bytes == 4 else f" {value.item_bytes}B"


def _convolution(node: RunNode) -> Described:
    x, weight, y = node.inputs[0], node.inputs[1], _first(node.outputs)
    if x is None or weight is None or len(weight.shape) < _SPATIAL_LEAST:
        return "convolution of unknown shape", ()
    group = int(node.attributes.get("group", 1))
    places = math.prod(y.shape[2:])
    kernel = math.prod(weight.shape[2:])
    strides = math.prod(node.attributes.get("strides", [1]))
    n_out, n_in = weight.shape[0] // max(group, 1), weight.shape[1]
    n_images = y.shape[0]
    with_sum = float(len(node.inputs) > 3)
    if node.op_type == "ConvTranspose":
        n_macs = x.size * math.prod(weight.shape[1:])
        return "transposed convolution", tuple(map(_log, (weight.size, y.size, kernel, strides, n_macs)))
    n_macs = y.size * math.prod(weight.shape[1:])
    rank = len(weight.shape) - 2
    blocked = node.domain.endswith("nchwc")
    if n_in == 1 and n_out == 1 and group > 1:
        kind = "depthwise"
        sizes: Sequence[float] = (places * n_images, group, kernel, strides, y.shape[-1])
    elif blocked and x.shape[1] < 16 and group == 1:
        kind = "first"
        sizes = (places * n_images, n_out, n_in, kernel, strides, y.shape[-1])
    elif kernel == 1 and group == 1:
        kind = "pointwise"
        sizes = (places * n_images, n_out, n_in, strides)
    elif group > 1:
        kind = "grouped"
        sizes = (places * n_images, group, n_out, n_in, kernel, strides, y.shape[-1])
    else:
        kind = "dense"
        sizes = (places * n_images, n_out, n_in, kernel, strides, y.shape[-1])
    dilated = float(max(node.attributes.get("dilations", [1])) > 1)
    layout = "blocked" if blocked else f"{rank}-D"
    return f"{layout} {kind} convolution{_type(x)}", (*map(_log, sizes), with_sum, dilated, _log(n_macs))


def _product(node: RunNode) -> Described:
    a, b, y = node.inputs[0], node.inputs[1], _first(node.outputs)
    if a is None or b is None or not a.shape or not b.shape:
        return "product of unknown shape", ()
    flip_a = bool(node.attributes.get("transA", 0)) and len(a.shape) > 1
    flip_b = bool(node.attributes.get("transB", 0)) and len(b.shape) > 1
    k = a.shape[-2] if flip_a else a.shape[-1]
    n = 1 if len(b.shape) == 1 else b.shape[-2] if flip_b else b.shape[-1]
    rows = max(y.size // max(n, 1), 1)
    if len(b.shape) <= 2:  # all rows at once
        m, batch = rows, 1
    else:
        m = 1 if len(a.shape) == 1 else a.shape[-1] if flip_a else a.shape[-2]
        batch = max(rows // max(m, 1), 1)
    source = "stored" if b.is_constant else "computed"
    kind = "vector" if m == 1 else "matrix"
    sizes = map(_log, (m, n, k, batch))
    return f"{kind} by {source} matrix{_type(a)}", (*sizes, float(flip_a), float(flip_b), _log(m * n * k * batch))


def _window(node: RunNode) -> Described:
    x, y = _first(node.inputs), _first(node.outputs)
    layout = "blocked " if node.domain.endswith("nchwc") else ""
    kernel = math.prod(node.attributes.get("kernel_shape", [1]))
    kind = f"{layout}{node.op_type}{_type(x)}"
    if node.op_type in ("Resize", "Upsample"):
        mode = node.attributes.get("mode", b"nearest")
        kind += f" {mode.decode() if isinstance(mode, bytes) else mode}"
        return kind, (_log(y.size), _log(x.size))
    if node.op_type.startswith("Global"):
        return kind, (_log(x.size), _log(y.size))
    if "Pool" in node.op_type:
        return kind, (_log(y.size), _log(kernel), _log(math.prod(node.attributes.get("strides", [1]))))
    if node.attributes.get("channels_last"):
        kind += " channels last"
    return kind, (_log(x.size), _log(math.prod(x.shape[2:])))


def _transposition(node: RunNode) -> Described:
    x = _first(node.inputs)
    rank = len(x.shape)
    order = list(node.attributes.get("perm", range(rank)[::-1]))
    kept = [axis for axis in order if x.shape[axis] != 1]
    run, last = 1, rank
    present = [axis for axis in range(rank) if x.shape[axis] != 1]
    while kept and present and kept[-1] == present[-1]:
        last = kept.pop()
        present.pop()
        run *= x.shape[last]
    if not kept:  # only sizes of one move
        return "transposition of nothing", (_log(x.n_bytes),)
    inner = x.shape[kept[-1]]
    if run > 1:
        return f"transposition of runs{_type(x)}", (_log(x.size), _log(run), _log(inner))
    moved = sum(a != b for a, b in zip(kept, present, strict=True))
    single = _is_single_move(kept, present)
    kind = "transposition" if single else "transposition of several axes"
    return f"{kind}{_type(x)}", (_log(x.size), _log(inner), _log(x.shape[present[-1]]), float(moved))


def _is_single_move(order: Sequence[int], sorted_order: Sequence[int]) -> bool:
    """Whether one axis moves and the others keep their order: onnxruntime has a kernel of its own for that."""
    return any([a for a in order if a != axis] == [a for a in sorted_order if a != axis] for axis in order)


def _recurrence(node: RunNode) -> Described:
    x, recurrent = node.inputs[0], node.inputs[2]
    if x is None or recurrent is None or len(x.shape) < 3:
        return f"{node.op_type} of unknown shape", ()
    directions, _, hidden = recurrent.shape
    length, batch, width = x.shape
    n_macs = length * batch * directions * hidden * _RECURRENT[node.op_type] * (width + hidden)
    return node.op_type, tuple(map(_log, (length, batch, width, hidden, directions, n_macs)))


def _rows(node: RunNode) -> Described:
    """Reductions and normalisations: rows, their length, and the distance between neighbours in a row."""
    x, y = _first(node.inputs), _first(node.outputs)
    rank = len(x.shape)
    axis = node.attributes.get("axis")
    if node.op_type.startswith("Reduce"):
        length = max(x.size // max(y.size, 1), 1)
        stride = _reduced_stride(node, x, y)
        return f"{node.op_type}{_type(x)}", (_log(x.size), _log(length), _log(stride))
    if node.op_type in ("ArgMax", "ArgMin", "TopK", "CumSum") and rank:
        place = int(axis or 0) % rank if node.op_type != "TopK" else int(-1 if axis is None else axis) % rank
        return f"{node.op_type}{_type(x)}", (
            _log(x.size),
            _log(x.shape[place]),
            _log(math.prod(x.shape[place + 1 :])),
            _log(y.size),
        )
    if node.op_type in ("InstanceNormalization", "GroupNormalization"):
        return node.op_type, (_log(x.size), _log(x.size / max(math.prod(x.shape[:2]), 1)), 0.0)
    place = int(-1 if axis is None else axis) % rank if rank else 0
    if node.op_type in ("Softmax", "LogSoftmax"):
        return f"{node.op_type}{_type(x)}", (
            _log(x.size),
            _log(x.shape[place] if rank else 1),
            _log(math.prod(x.shape[place + 1 :])),
        )
    return f"{node.op_type}{_type(x)}", (_log(x.size), _log(math.prod(x.shape[place:])))


def _reduced_stride(node: RunNode, x: Value, y: Value) -> int:
    """Elements after the last reduced axis."""
    if len(x.shape) == len(y.shape):
        reduced = [i for i, (a, b) in enumerate(zip(x.shape, y.shape, strict=True)) if a != b]
        return math.prod(x.shape[reduced[-1] + 1 :]) if reduced else 1
    axes = [int(axis) % len(x.shape) for axis in node.attributes.get("axes", ())]
    if axes:
        return math.prod(x.shape[max(axes) + 1 :])
    stride, left = 1, list(y.shape)
    for size in x.shape[::-1]:
        if not left or left[-1] != size:
            break
        stride *= left.pop()
    return stride


def _moved(node: RunNode) -> Described:
    """Operators that copy parts: what they write, and the length of what they copy at once."""
    x, y = _first(node.inputs), _first(node.outputs)
    kind = f"{node.op_type}{_type(x)}"
    written = sum(value.size for value in node.outputs if value is not None)
    if node.op_type in ("Concat", "Split"):
        whole = y if node.op_type == "Concat" else x
        parts = node.inputs if node.op_type == "Concat" else node.outputs
        rank = max(len(whole.shape), 1)
        axis = int(node.attributes.get("axis", 0)) % rank
        run = math.prod(whole.shape[axis:]) / max(len(parts), 1)
        return kind, (_log(written), _log(run), _log(len(parts)))
    if node.op_type.startswith("Gather"):
        indices = node.inputs[1] if len(node.inputs) > 1 else None
        n_picked = indices.size if indices is not None else 1
        return kind, (_log(written), _log(written / max(n_picked, 1)), _log(x.n_bytes))
    run = _common_run(x, y)
    return kind, (_log(written), _log(run))


def _common_run(x: Value, y: Value) -> int:
    """Elements of the last axes up to, and with, the first that differs."""
    run = 1
    for a, b in zip(x.shape[::-1], y.shape[::-1], strict=False):
        run *= min(a, b)
        if a != b:
            break
    return max(run, 1)


def _elementwise(node: RunNode) -> Described:
    """All others: elements, and the run over which a broadcast input is constant or whole."""
    x, y = _first(node.inputs), _first(node.outputs)
    values = [value for value in node.inputs if value is not None and value.size > 1]
    kind = f"{node.op_type}{_type(x)}"
    size = max(y.size, x.size)
    if len(node.inputs) < 2 or all(value.size == size for value in values):
        return kind, (_log(size),)
    small = min(values, key=lambda value: value.size)
    run = _broadcast_run(small.shape, y.shape)
    return f"{kind} broadcast", (_log(size), _log(run), _log(small.size))


def _broadcast_run(small: Sequence[int], large: Sequence[int]) -> int:
    """Length of the last axes over which a value either repeats or has all of its elements."""
    padded = (1,) * (len(large) - len(small)) + tuple(small)
    pairs = [(a, b) for a, b in zip(padded, large, strict=False) if b != 1][::-1]
    if not pairs:
        return 1
    repeats = pairs[0][0] == 1
    run = 1
    for a, b in pairs:
        if (a == 1) != repeats:
            break
        run *= b
    return run
