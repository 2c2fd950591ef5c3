"""The one definition of DeepNets-1M networks: which layers an architecture has, their names, their sizes, their order.

`forward` goes through an architecture once and asks a set of layers for each layer that it meets. What comes of that is
the set's business: torch modules (`network`), the network's output on given tensors (`functional`), a computational
graph (`symbolic`), or the multiply-accumulates of each layer (`properties.macs`).

Facts from facebookresearch/ppuda, ppuda/deepnets1m/net.py and ops.py.
"""

from __future__ import annotations

import functools
import re
from typing import Generic, TypeVar

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.genotypes import HEADS
from onnx_ghn.deepnets1m.layer_set import Cell, Layers, Pair, States
from onnx_ghn.errors import GraphError

__all__ = ["Blocks", "features", "forward", "parse_operation"]

T = TypeVar("T")
_POOLS = ("max_pool", "avg_pool")


@functools.cache
def parse_operation(name: str) -> tuple[str, int]:
    """(kind, kernel size) of an operation: conv_7x1_1x7 is the pair of convolutions conv2 of size 7."""
    sizes = re.findall(r"(\d+)x(\d+)", name)
    kind = re.sub(r"_\d+x\d+", "", name)
    kernel = max((int(size) for pair in sizes for size in pair), default=0)
    return (f"{kind}2" if len(sizes) == 2 else kind), kernel


class Blocks(Generic[T]):
    """What cells are built from.

    Args:
        layers: to build with.
        norm: batch norm after convolutions, or None.
    """

    def __init__(self, layers: Layers[T], norm: str | None) -> None:
        self.layers = layers
        self.norm = norm

    def batch_norm(self, name: str, x: T, channels: int) -> T:
        """Batch norm, where the network has any."""
        return x if self.norm is None else self.layers.batch_norm(name, x, channels)

    def conv_bn(self, names: tuple[str, str], x: T, c_in: int, c_out: int, kernel: int, stride: int, padding: int) -> T:
        """A convolution and its batch norm."""
        x = self.layers.conv(names[0], x, c_in, c_out, (kernel, kernel), stride, padding)
        return self.batch_norm(names[1], x, c_out)

    def relu_conv_bn(self, name: str, c_in: int, c_out: int, kernel: int, stride: int, x: T) -> T:
        """ReLU, convolution, batch norm."""
        names = f"{name}.op.1", f"{name}.op.2"
        return self.conv_bn(names, self.layers.relu(x), c_in, c_out, kernel, stride, kernel // 2)

    def factorized_conv(self, name: str, c_in: int, c_out: int, kernel: int, stride: int, x: T) -> T:
        """As `relu_conv_bn`, by a 1 × k and a k × 1 convolution."""
        layers, half = self.layers, kernel // 2
        x = layers.conv(f"{name}.op.1", layers.relu(x), c_in, c_in, (1, kernel), (1, stride), (0, half))
        x = layers.conv(f"{name}.op.2", x, c_in, c_out, (kernel, 1), (stride, 1), (half, 0))
        return self.batch_norm(f"{name}.op.3", x, c_out)

    def factorized_reduce(self, name: str, c_in: int, c_out: int, x: T) -> T:
        """A skip that halves height and width: two convolutions, one pixel apart, side by side."""
        names = f"{name}.conv_1", f"{name}.conv_2"
        halves = self.layers.relu_halving_convs(names, x, c_in, c_out // 2)
        return self.batch_norm(f"{name}.bn", self.layers.concat(f"{name}.concat", halves), c_out)

    def dilated_conv(self, name: str, c_in: int, c_out: int, kernel: int, stride: int, x: T) -> T:
        """ReLU, a depthwise convolution of every second pixel, a 1 × 1 convolution, batch norm."""
        layers = self.layers
        x = layers.depthwise(f"{name}.op.1", layers.relu(x), c_in, kernel, stride, kernel - kernel % 2, 2)
        return self.conv_bn((f"{name}.op.2", f"{name}.op.3"), x, c_in, c_out, 1, 1, 0)

    def separable_conv(self, name: str, c_in: int, c_out: int, kernel: int, stride: int, x: T) -> T:
        """ReLU, a depthwise and a 1 × 1 convolution, batch norm; all that twice."""
        layers, half = self.layers, kernel // 2
        x = layers.depthwise(f"{name}.op.1", layers.relu(x), c_in, kernel, stride, half)
        x = self.conv_bn((f"{name}.op.2", f"{name}.op.3"), x, c_in, c_in, 1, 1, 0)
        x = layers.depthwise(f"{name}.op.5", layers.relu(x), c_in, kernel, 1, half)
        return self.conv_bn((f"{name}.op.6", f"{name}.op.7"), x, c_in, c_out, 1, 1, 0)

    def channel_attention(self, name: str, channels: int, x: T) -> T:
        """Squeeze-and-excitation with a Hardswish gate."""
        layers = self.layers
        gate = layers.linear(f"{name}.fc1", layers.squeeze(x), channels, channels // 2)
        gate = layers.linear(f"{name}.fc2", layers.relu(gate), channels // 2, channels)
        return layers.gate(f"{name}.cse", x, gate)

    def transformer(self, name: str, features: int, x: T) -> T:
        """A pre-norm block over pixels: self-attention, and a feed-forward layer as wide as its input."""
        layers, head_width = self.layers, features // HEADS
        inner = head_width * HEADS
        layers.published_order(name, ("to_qkv", "to_out", "ln1", "ln2", "ff"))
        tokens = layers.tokens(x)
        y = layers.layer_norm(f"{name}.ln1", tokens, features)
        y = layers.linear(f"{name}.to_qkv", y, features, 3 * inner, bias=False)
        y = layers.attention(f"{name}.msa", y, head_width)
        y = layers.linear(f"{name}.to_out.0", y, inner, features)
        tokens = layers.add(f"{name}.sum1", y, tokens)
        y = layers.layer_norm(f"{name}.ln2", tokens, features)
        y = layers.gelu(layers.linear(f"{name}.ff.net.0", y, features, features))
        y = layers.linear(f"{name}.ff.net.3", y, features, features)
        return layers.feature_map(layers.add(f"{name}.sum2", y, tokens), x)

    def operation(self, name: str, kind: str, kernel: int, c_in: int, c_out: int, stride: int, x: T) -> T:
        """An operation of a cell (`parse_operation` gives kind and kernel). Raises GraphError: no such operation."""
        match kind:
            case "skip_connect":
                return x if stride == 1 else self.factorized_reduce(name, c_in, c_out, x)
            case "max_pool":
                return self.layers.max_pool(name, x, kernel, stride)
            case "avg_pool":
                return self.layers.avg_pool(name, x, kernel, stride)
            case "conv":
                return self.relu_conv_bn(name, c_in, c_out, kernel, stride, x)
            case "conv2":
                return self.factorized_conv(name, c_in, c_out, kernel, stride, x)
            case "sep_conv":
                return self.separable_conv(name, c_in, c_out, kernel, stride, x)
            case "dil_conv":
                return self.dilated_conv(name, c_in, c_out, kernel, stride, x)
            case "msa":
                x = self.transformer(name, c_in, x)
            case "cse":
                x = self.channel_attention(name, c_in, x)
            case _:
                raise GraphError(f"no operation {kind!r}")
        return x if stride == 1 else self.layers.strided(x, stride)

    def branch(self, name: str, kind: str, kernel: int, width: int, stride: int, x: T) -> T:
        """An operation between two states of a cell, which drop path may leave out unless it only passes its input."""
        if kind == "skip_connect" and stride == 1:
            return x
        return self.layers.drop_path(self.operation(name, kind, kernel, width, width, stride, x))

    def cell(self, cell: Cell, preprocess: bool, inputs: States[T]) -> T | None:
        """The output of a cell, None where all paths through it are cut.

        Args:
            preprocess: convolutions bring both inputs to the cell's width and to one size.
        """
        layers, width, name = self.layers, cell.width, f"cells.{cell.number}"
        states = [*inputs]
        if preprocess:
            for i, (x, channels) in enumerate(zip(inputs, cell.channels, strict=True)):
                if i == 0 and cell.halve:
                    run = functools.partial(self.factorized_reduce, f"{name}.preprocess0", channels, width)
                else:
                    run = functools.partial(self.relu_conv_bn, f"{name}.preprocess{i}", channels, width, 1, 1)
                states[i] = layers.part(f"{name}.preprocess{i}", x, run)
        elif cell.halve and states[0] is not None:
            states[0] = layers.strided(states[0], 2)
        for step in range(len(cell.edges) // 2):
            total: T | None = None
            for i in (2 * step, 2 * step + 1):
                operation, state = cell.edges[i]
                kind, kernel = parse_operation(operation)
                if kind == "none":
                    continue
                stride = cell.stride if state < 2 else 1
                path = f"{name}._ops.{i}"
                learns = kind not in _POOLS and (kind != "skip_connect" or stride > 1)
                run = functools.partial(self.branch, path, kind, kernel, width, stride)
                value = layers.part(path, states[state], run, learns=learns)
                if total is None:
                    total = value
                elif value is not None:
                    total = layers.add(f"{name}.sum{step}", total, value)
            states.append(total)
        kept = [states[i] for i in cell.concat]
        if len(kept) == 1 or all(value is None for value in kept):
            return kept[0]
        return layers.concat(f"{name}.concat", kept)


def features(architecture: Architecture, layers: Layers[T], images: T, *, large_images: bool = False) -> T:
    """The output of a network's last cell. Arguments and errors are those of `forward`."""
    return _cells(architecture, layers, images, large_images)[0]


def _cells(architecture: Architecture, layers: Layers[T], images: T, large: bool) -> tuple[T, int]:
    """The output of the last cell and its channels."""
    arch, blocks = architecture, Blocks(layers, architecture.norm)
    vit = arch.genotype.is_vit
    stem = _stem(arch, blocks, images, large)
    states, channels = stem
    width = arch.C
    halve = arch.stem_type == 1 and not vit
    for number in range(arch.n_cells):
        reduction = arch.is_reduction(number)
        if reduction:
            width *= arch.C_mult
        edges, concat = arch.genotype.cell(reduction)
        strided = reduction and not vit
        cell = Cell(number, edges, concat, channels, width, reduction, 2 if strided else 1, halve)
        output = layers.cell(cell, states, functools.partial(blocks.cell, cell, arch.preproc))
        states, channels = (states[1], output), (channels[1], cell.out_channels)
        halve = strided
    if states[1] is None:
        raise GraphError("the network has no output: `none` operations cut every path to it")
    return states[1], channels[1]


def _stem(architecture: Architecture, blocks: Blocks[T], images: T, large: bool) -> tuple[States[T], Pair]:
    """The two inputs of the first cell and their channels."""
    arch, layers, width = architecture, blocks.layers, architecture.C
    if arch.genotype.is_vit:
        kernel, side = (16, 14) if large else (3, 11)
        x = layers.conv("stem0", images, 3, width, (kernel, kernel), kernel, int(kernel < 4))
        x = layers.position_table("pos_enc", x, width, side)
        return (x, x), (width, width)
    if arch.stem_type == 0:
        out = width * (3 if arch.preproc and not large else 1)
        x = blocks.conv_bn(("stem.0", "stem.1"), images, 3, out, arch.ks, 4 if large else 1, arch.ks // 2)
        if arch.stem_pool:
            x = layers.max_pool("stem.2", x, 3, 2)
        return (x, x), (out, out)
    stride, half = 2 if large else 1, width // 2
    x = blocks.conv_bn(("stem0.0", "stem0.1"), images, 3, half, arch.ks, stride, arch.ks // 2)
    first = blocks.conv_bn(("stem0.3", "stem0.4"), layers.relu(x), half, width, 3, stride, 1)

    def second(x: T) -> T:
        return blocks.conv_bn(("stem1.1", "stem1.2"), layers.relu(x), width, width, 3, 2, 1)

    return (first, layers.part("stem1", first, second)), (width, width)


def forward(
    architecture: Architecture, layers: Layers[T], images: T, num_classes: int = 10, *, large_images: bool = False
) -> T:
    """The logits of an architecture's network.

    Args:
        images: (B, 3, H, W).
        num_classes: of the classifier.
        large_images: the network is that for 224 × 224 images, not that for 32 × 32 ones.

    Raises:
        GraphError: the network has no output, all paths to it being cut by `none` operations.
    """
    arch = architecture
    x, channels = _cells(arch, layers, images, large_images)
    x = layers.global_pool(x) if arch.glob_avg else layers.flatten(x)

    def classify(x: T) -> T:
        c_in, n_pixels = channels, 1 if arch.glob_avg else _final_side(arch, large_images) ** 2
        for layer in range(arch.fc_layers - 1):
            x = layers.linear(f"classifier.{3 * layer}", x, c_in, arch.fc_dim, n_pixels=n_pixels)
            x = layers.dropout(f"classifier.{3 * layer + 2}", layers.relu(x))
            c_in, n_pixels = arch.fc_dim, 1
        return layers.linear(f"classifier.{3 * (arch.fc_layers - 1)}", x, c_in, num_classes, n_pixels=n_pixels)

    logits = layers.part("classifier", x, classify, learns=False)
    assert logits is not None
    return logits


def _final_side(architecture: Architecture, large: bool) -> int:
    """Height and width of the last cell's output."""
    small = architecture.stem_type == 1 or architecture.stem_pool
    return (7 if small else 14) if large else (4 if small else 8)
