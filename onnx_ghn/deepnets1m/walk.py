"""A walk through an architecture's layers that records nodes, edges and parameters instead of computing.

The layers are those of a network's forward pass (facebookresearch/ppuda, ppuda/deepnets1m/net.py and ops.py), but
values are only the nodes that they stem from and their channels.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.errors import GraphError
from onnx_ghn.graph.layout import Layout
from onnx_ghn.graph.model import Flattened, Node, Parameter, Primitive, Role

__all__ = ["Value", "Walk", "parse_operation"]


class Value(NamedTuple):
    """What a value stems from (nodes in order), its channels (features), and what these are of a flattened map."""

    sources: tuple[int, ...]
    channels: int
    flattened: Flattened | None = None


@functools.cache
def parse_operation(name: str) -> tuple[str, int]:
    """(kind, kernel size) of an operation: conv_7x1_1x7 is the pair of convolutions conv2 of size 7."""
    sizes = re.findall(r"(\d+)x(\d+)", name)
    kind = re.sub(r"_\d+x\d+", "", name)
    kernel = max((int(size) for pair in sizes for size in pair), default=0)
    return (f"{kind}2" if len(sizes) == 2 else kind), kernel


@functools.lru_cache(maxsize=1 << 15)
def _parameter(name: str, role: Role, shape: tuple[int, ...], flattened: Flattened | None = None) -> Parameter:
    """Cached: the same names and shapes come again and again, and making one takes longer than all else at a node."""
    return Parameter(name, role, Layout(shape), flattened=flattened)


def _union(values: Sequence[Value]) -> tuple[int, ...]:
    """The nodes from which any of the values stem, in order."""
    if len(values) == 1:
        return values[0].sources
    return tuple(sorted({source for value in values for source in value.sources}))


class Walk:
    """Records the network of an architecture; call `output` once.

    Attributes:
        nodes: in the order of the forward pass, which is topological and goes cell by cell.
        edges: (from, to), by target.
        parameters: of the network, in about its order.
        cut: indices of those that are in no node.
    """

    def __init__(self, architecture: Architecture, num_classes: int, large_images: bool) -> None:
        self.arch = architecture
        self.num_classes = num_classes
        self.large = large_images
        self.nodes: list[Node] = []
        self.edges: list[tuple[int, int]] = []
        self.parameters: list[Parameter] = []
        self.cut: set[int] = set()

    # -- recording ---------------------------------------------------------------------------------------

    def parameter(self, name: str, role: Role, shape: tuple[int, ...], flattened: Flattened | None = None) -> int:
        self.parameters.append(_parameter(name, role, shape, flattened))
        return len(self.parameters) - 1

    def node(
        self,
        primitive: Primitive,
        sources: tuple[int, ...],
        channels: int,
        name: str,
        shape: tuple[int, ...] | None = None,
        weight: int | None = None,
        scale: int | None = None,
        shift: int | None = None,
    ) -> Value:
        number = len(self.nodes)
        self.nodes.append(Node(primitive, shape, weight, scale, shift, name))
        for source in sources:
            self.edges.append((source, number))
        return Value((number,), channels)

    def merge(self, primitive: Primitive, values: Sequence[Value], channels: int, name: str) -> Value:
        """A sum or a concatenation: a node only where two or more nodes meet."""
        sources = _union(values)
        if len(sources) < 2:
            return Value(sources, channels)
        return self.node(primitive, sources, channels, name)

    # -- layers ------------------------------------------------------------------------------------------

    def conv(
        self, name: str, x: Value, out: int, kernel: tuple[int, int], *, groups: int = 1, dilated: bool = False
    ) -> Value:
        shape = (out, x.channels // groups, *kernel)
        index = self.parameter(f"{name}.weight", Role.weight, shape)
        primitive = Primitive.conv
        if groups > 1:
            primitive = Primitive.dil_conv if dilated else Primitive.sep_conv
        return self.node(primitive, x.sources, out, f"{name}.weight", shape, weight=index)

    def linear(self, name: str, x: Value, out: int, *, bias: bool = True) -> Value:
        shape = (out, x.channels)
        index = self.parameter(f"{name}.weight", Role.weight, shape, x.flattened)
        y = self.node(Primitive.conv, x.sources, out, f"{name}.weight", shape, weight=index)
        if not bias:
            return y
        index = self.parameter(f"{name}.bias", Role.bias, (out,))
        return self.node(Primitive.bias, y.sources, out, f"{name}.bias", (out,), shift=index)

    def norm(self, name: str, x: Value, primitive: Primitive) -> Value:
        shape = (x.channels,)
        scale = self.parameter(f"{name}.weight", Role.norm_scale, shape)
        shift = self.parameter(f"{name}.bias", Role.norm_bias, shape)
        return self.node(primitive, x.sources, x.channels, f"{name}.weight", shape, scale=scale, shift=shift)

    def batch_norm(self, name: str, x: Value) -> Value:
        return x if self.arch.norm is None else self.norm(name, x, Primitive.bn)

    def relu_conv_bn(self, name: str, x: Value, out: int, kernel: int = 1, *, double: bool = False) -> Value:
        """ReLU, convolution (or a 1 × k and a k × 1 one), batch norm."""
        if double:
            x = self.conv(f"{name}.op.1", x, x.channels, (1, kernel))
            x = self.conv(f"{name}.op.2", x, out, (kernel, 1))
            return self.batch_norm(f"{name}.op.3", x)
        return self.batch_norm(f"{name}.op.2", self.conv(f"{name}.op.1", x, out, (kernel, kernel)))

    def factorized_reduce(self, name: str, x: Value, out: int) -> Value:
        halves = [self.conv(f"{name}.conv_{i}", x, out // 2, (1, 1)) for i in (1, 2)]
        return self.batch_norm(f"{name}.bn", self.merge(Primitive.concat, halves, out, f"{name}.concat"))

    def operation(self, name: str, kind: str, kernel: int, x: Value, out: int, stride: int) -> Value:
        channels, window = x.channels, (kernel, kernel)
        match kind:
            case "skip_connect":
                return x if stride == 1 else self.factorized_reduce(name, x, out)
            case "max_pool" | "avg_pool":
                return self.node(Primitive[kind], x.sources, channels, name, (1, 1, *window))
            case "conv" | "conv2":
                return self.relu_conv_bn(name, x, out, kernel, double=kind == "conv2")
            case "dil_conv":
                x = self.conv(f"{name}.op.1", x, channels, window, groups=channels, dilated=True)
                return self.batch_norm(f"{name}.op.3", self.conv(f"{name}.op.2", x, out, (1, 1)))
            case "sep_conv":
                x = self.conv(f"{name}.op.1", x, channels, window, groups=channels)
                x = self.batch_norm(f"{name}.op.3", self.conv(f"{name}.op.2", x, channels, (1, 1)))
                x = self.conv(f"{name}.op.5", x, channels, window, groups=channels)
                return self.batch_norm(f"{name}.op.7", self.conv(f"{name}.op.6", x, out, (1, 1)))
            case "msa":
                return self.attention(name, x)
            case "cse":
                squeezed = self.linear(f"{name}.fc1", x, channels // 2)
                gate = self.linear(f"{name}.fc2", squeezed, channels)
                return self.node(Primitive.cse, _union([x, gate]), channels, f"{name}.cse")
        raise GraphError(f"no operation {kind!r}")

    def attention(self, name: str, x: Value) -> Value:
        """A transformer block: self-attention and a feed-forward layer as wide as the input, both residual."""
        features = x.channels
        # Registered in the order of the module's attributes, used in that of its forward pass.
        y = self.norm(f"{name}.ln1", x, Primitive.ln)
        y = self.linear(f"{name}.to_qkv", y, 3 * features, bias=False)
        y = self.node(Primitive.msa, y.sources, features, f"{name}.msa")
        y = self.linear(f"{name}.to_out.0", y, features)
        x = self.merge(Primitive.sum, [y, x], features, f"{name}.sum1")
        y = self.norm(f"{name}.ln2", x, Primitive.ln)
        y = self.linear(f"{name}.ff.net.0", y, features)
        y = self.linear(f"{name}.ff.net.3", y, features)
        return self.merge(Primitive.sum, [y, x], features, f"{name}.sum2")

    # -- network -----------------------------------------------------------------------------------------

    def stem(self, x: Value) -> tuple[Value, Value]:
        """The two inputs of the first cell."""
        arch, width = self.arch, self.arch.C
        if arch.genotype.is_vit:
            kernel, grid = (16, 14) if self.large else (3, 11)
            x = self.conv("stem0", x, width, (kernel, kernel))
            shape = (1, width, grid, grid)
            index = self.parameter("pos_enc.weight", Role.position, shape)
            table = self.node(Primitive.pos_enc, (), width, "pos_enc.weight", shape, weight=index)
            x = self.merge(Primitive.sum, [x, table], width, "pos_enc.sum")
            return x, x
        ks = (arch.ks, arch.ks)
        if arch.stem_type == 0:
            out = width * (3 if arch.preproc and not self.large else 1)
            x = self.batch_norm("stem.1", self.conv("stem.0", x, out, ks))
            if arch.stem_pool:
                x = self.node(Primitive.max_pool, x.sources, out, "stem.2", (1, 1, 3, 3))
            return x, x
        x = self.batch_norm("stem0.1", self.conv("stem0.0", x, width // 2, ks))
        first = self.batch_norm("stem0.4", self.conv("stem0.3", x, width, (3, 3)))
        return first, self.batch_norm("stem1.2", self.conv("stem1.1", first, width, (3, 3)))

    def on(self, x: Value | None, channels: int, layer: Callable[[Value], Value]) -> Value | None:
        """A layer on a value; on one that is cut off (None), its parameters alone: the network has them too."""
        if x is not None:
            return layer(x)
        n_nodes, n_edges, n_parameters = len(self.nodes), len(self.edges), len(self.parameters)
        layer(Value((), channels))
        del self.nodes[n_nodes:], self.edges[n_edges:]
        self.cut.update(range(n_parameters, len(self.parameters)))
        return None

    def cell(
        self,
        number: int,
        s0: Value | None,
        s1: Value | None,
        channels: tuple[int, int],
        width: int,
        reduction: bool,
        reduction_prev: bool,
    ) -> Value | None:
        """The output of a cell, None where all paths through it are cut. `channels` are those of s0 and s1."""
        arch, name = self.arch, f"cells.{number}"
        vit = arch.genotype.is_vit
        if arch.preproc:
            preprocess = self.factorized_reduce if reduction_prev and not vit else self.relu_conv_bn
            s0 = self.on(s0, channels[0], lambda x: preprocess(f"{name}.preprocess0", x, width))
            s1 = self.on(s1, channels[1], lambda x: self.relu_conv_bn(f"{name}.preprocess1", x, width))
        edges = arch.genotype.reduce if reduction else arch.genotype.normal
        concat = arch.genotype.reduce_concat if reduction else arch.genotype.normal_concat
        states: list[Value | None] = [s0, s1]
        for step in range(len(edges) // 2):
            ends: list[Value] = []
            for i in (2 * step, 2 * step + 1):
                operation, state = edges[i]
                kind, kernel = parse_operation(operation)
                given = states[state]
                stride = 2 if reduction and state < 2 and not vit else 1
                if kind == "none":
                    continue
                end = self.on(
                    given,
                    width,
                    functools.partial(self.operation, f"{name}._ops.{i}", kind, kernel, out=width, stride=stride),
                )
                if end is not None:
                    ends.append(end)
            states.append(self.merge(Primitive.sum, ends, width, f"{name}.sum{step}") if ends else None)
        kept = [states[i] for i in concat]
        present = [value for value in kept if value is not None]
        if not present:
            return None
        # States that nothing reaches are zeros of the same size: channels, but no source.
        return self.merge(Primitive.concat, present, width * len(kept), f"{name}.concat")

    def output(self) -> Value:
        """Walk from the input to the logits. Raises GraphError: every path is cut."""
        arch = self.arch
        x = self.node(Primitive.input, (), 3, "input")
        s0: Value | None
        s1: Value | None
        s0, s1 = self.stem(x)
        width, reduction_prev = arch.C, arch.stem_type == 1
        channels = (s0.channels, s1.channels)
        for number in range(arch.n_cells):
            reduction = arch.is_reduction(number)
            if reduction:
                width *= arch.C_mult
            s0, s1 = s1, self.cell(number, s0, s1, channels, width, reduction, reduction_prev)
            concat = arch.genotype.reduce_concat if reduction else arch.genotype.normal_concat
            channels = (channels[1], len(concat) * width)
            reduction_prev = reduction
        if s1 is None:
            raise GraphError("the network has no output: `none` operations cut every path to it")
        if arch.glob_avg:
            x = self.node(Primitive.glob_avg, s1.sources, s1.channels, "glob_avg")
        else:
            small = arch.stem_type == 1 or arch.stem_pool
            side = (7 if small else 14) if self.large else (4 if small else 8)
            x = Value(s1.sources, s1.channels * side * side, Flattened(side * side))
        for layer in range(arch.fc_layers):
            out = self.num_classes if layer == arch.fc_layers - 1 else arch.fc_dim
            x = self.linear(f"classifier.{3 * layer}", x, out)
        return x
