"""From an architecture to its computational graph, without building a network.

The graph is the one that `build_graph` reads from the network's ONNX export; names and shapes are the network's.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.definition import forward
from onnx_ghn.deepnets1m.layer_set import Cell, Outline, Pair, States
from onnx_ghn.errors import GraphError
from onnx_ghn.graph.layout import Layout
from onnx_ghn.graph.model import ComputationGraph, Node, Primitive
from onnx_ghn.graph.parameter import Flattened, Parameter, Role

__all__ = ["PRUNED", "count_trainable", "n_trainable", "symbolic_graph", "trainable_parameters"]

#: Why a parameter is in no node.
PRUNED = "no path leads through it to the output"


def symbolic_graph(
    architecture: Architecture, num_classes: int = 10, *, large_images: bool = False
) -> ComputationGraph:
    """The graph of an architecture's network.

    Args:
        num_classes: of the classifier.
        large_images: 224 × 224 inputs instead of 32 × 32.

    Returns:
        the graph in topological order; parameters through which no path leads to the output are listed, with a reason.

    Raises:
        GraphError: the network has no output, all paths to it being cut by `none` operations.
    """
    found = _recorded(architecture, num_classes, large_images)
    nodes, edges, parameters = found.nodes, found.edges, found.parameters
    alive = [False] * len(nodes)
    alive[-1] = True  # the logits
    for source, target in reversed(edges):  # those that leave a node come after those that reach it
        if alive[target]:
            alive[source] = True
    if not alive[0]:
        raise GraphError("the network's output does not depend on its input: `none` operations cut every path")
    if not all(alive):
        found.cut.update(i for node, kept in zip(nodes, alive, strict=True) if not kept for i in node.parameters)
        number = list(itertools.accumulate(alive, initial=0))  # of a kept node: how many are kept before it
        nodes = list(itertools.compress(nodes, alive))
        edges = [(number[a], number[b]) for a, b in edges if alive[a] and alive[b]]
    for i in found.cut:
        parameters[i] = dataclasses.replace(parameters[i], reason=PRUNED)
    return ComputationGraph(
        nodes=tuple(nodes),
        edges=np.array(edges, dtype=np.int64).reshape(-1, 2),
        parameters=tuple(parameters),
        name=f"{architecture.n_cells} cells, C = {architecture.C}",
    )


def trainable_parameters(
    architecture: Architecture, num_classes: int = 10, *, large_images: bool = False
) -> tuple[Parameter, ...]:
    """The trainable tensors of an architecture's network, in its order, whether or not a path leads through them.

    Raises:
        GraphError: the network has no output.
    """
    return tuple(_recorded(architecture, num_classes, large_images).parameters)


def n_trainable(graph: ComputationGraph) -> int:
    """Trainable elements, pruned ones included, as the published generator counts them."""
    return sum(math.prod(parameter.layout.stored) for parameter in graph.parameters)


def count_trainable(architecture: Architecture, num_classes: int = 10, *, large_images: bool = False) -> int:
    """`n_trainable` of an architecture's graph, without the graph."""
    layers = _CountLayers()
    forward(architecture, layers, 0, num_classes, large_images=large_images)
    return layers.n_elements


def _recorded(architecture: Architecture, num_classes: int, large_images: bool) -> _GraphLayers:
    layers = _GraphLayers()
    images = layers.node(Primitive.input, (), "input")
    forward(architecture, layers, images, num_classes, large_images=large_images)
    return layers


@functools.lru_cache(maxsize=1 << 15)
def _parameter(name: str, role: Role, shape: tuple[int, ...], flattened: Flattened | None = None) -> Parameter:
    """Cached: the same names and shapes come again and again, and making one takes longer than all else at a node."""
    return Parameter(name, role, Layout(shape), flattened=flattened)


class _GraphLayers(Outline[int]):
    """Layers that record themselves. A value is the number of the node that it comes from.

    Attributes:
        nodes: in the order of the forward pass, which is topological and goes cell by cell.
        edges: (from, to), by target.
        parameters: of the network, in about its order.
        cut: indices of those that are in no node.
    """

    def __init__(self) -> None:
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
        sources: Sequence[int],
        name: str,
        shape: tuple[int, ...] | None = None,
        weight: int | None = None,
        scale: int | None = None,
        shift: int | None = None,
    ) -> int:
        number = len(self.nodes)
        self.nodes.append(Node(primitive, shape, weight, scale, shift, name))
        for source in sources:
            self.edges.append((source, number))
        return number

    def part(self, name: str, x: int | None, run: Callable[[int], int], *, learns: bool = True) -> int | None:
        if x is not None:
            return run(x)
        # What is cut off has no nodes, but the network has its parameters too.
        n_nodes, n_edges, n_parameters = len(self.nodes), len(self.edges), len(self.parameters)
        run(0)
        del self.nodes[n_nodes:], self.edges[n_edges:]
        self.cut.update(range(n_parameters, len(self.parameters)))
        return None

    # -- layers ------------------------------------------------------------------------------------------

    def conv(
        self, name: str, x: int, c_in: int, c_out: int, kernel: Pair, stride: int | Pair, padding: int | Pair
    ) -> int:
        return self._weight(Primitive.conv, f"{name}.weight", (x,), (c_out, c_in, *kernel))

    def depthwise(
        self, name: str, x: int, channels: int, kernel: int, stride: int, padding: int, dilation: int = 1
    ) -> int:
        primitive = Primitive.sep_conv if dilation == 1 else Primitive.dil_conv
        return self._weight(primitive, f"{name}.weight", (x,), (channels, 1, kernel, kernel))

    def _weight(
        self,
        primitive: Primitive,
        name: str,
        sources: Sequence[int],
        shape: tuple[int, ...],
        role: Role = Role.weight,
        flattened: Flattened | None = None,
    ) -> int:
        index = self.parameter(name, role, shape, flattened)
        return self.node(primitive, sources, name, shape, index)

    def linear(self, name: str, x: int, c_in: int, c_out: int, *, bias: bool = True, n_pixels: int = 1) -> int:
        flattened = Flattened(n_pixels) if n_pixels > 1 else None
        shape = (c_out, c_in * n_pixels)
        x = self._weight(Primitive.conv, f"{name}.weight", (x,), shape, flattened=flattened)
        if not bias:
            return x
        index = self.parameter(f"{name}.bias", Role.bias, (c_out,))
        return self.node(Primitive.bias, (x,), f"{name}.bias", (c_out,), shift=index)

    def batch_norm(self, name: str, x: int, channels: int) -> int:
        return self._norm(Primitive.bn, name, x, channels)

    def layer_norm(self, name: str, x: int, features: int) -> int:
        return self._norm(Primitive.ln, name, x, features)

    def _norm(self, primitive: Primitive, name: str, x: int, channels: int) -> int:
        shape = (channels,)
        scale = self.parameter(f"{name}.weight", Role.norm_scale, shape)
        shift = self.parameter(f"{name}.bias", Role.norm_bias, shape)
        return self.node(primitive, (x,), f"{name}.weight", shape, None, scale, shift)

    def position_table(self, name: str, x: int, channels: int, side: int) -> int:
        shape = (1, channels, side, side)
        table = self._weight(Primitive.pos_enc, f"{name}.weight", (), shape, Role.position)
        return self.add(f"{name}.sum", x, table)

    def max_pool(self, name: str, x: int, kernel: int, stride: int) -> int:
        return self.node(Primitive.max_pool, (x,), name, (1, 1, kernel, kernel))

    def avg_pool(self, name: str, x: int, kernel: int, stride: int) -> int:
        return self.node(Primitive.avg_pool, (x,), name, (1, 1, kernel, kernel))

    def add(self, name: str, a: int, b: int) -> int:
        if a == b:  # a node only where two meet
            return a
        return self.node(Primitive.sum, (a, b) if a < b else (b, a), name)

    def concat(self, name: str, values: Sequence[int | None]) -> int:
        sources = sorted({value for value in values if value is not None})  # zeros come from no node
        return sources[0] if len(sources) == 1 else self.node(Primitive.concat, sources, name)

    def attention(self, name: str, qkv: int, head_width: int) -> int:
        return self.node(Primitive.msa, (qkv,), name)

    def gate(self, name: str, x: int, gate: int) -> int:
        return self.node(Primitive.cse, (x, gate), name)

    def global_pool(self, x: int) -> int:
        return self.node(Primitive.glob_avg, (x,), "glob_avg")


class _CountLayers(_GraphLayers):
    """Layers that count the elements of their parameters. Cells of the same kind and sizes are counted once."""

    def __init__(self) -> None:
        super().__init__()
        self.n_elements = 0
        self.counted: dict[tuple[object, ...], int] = {}

    def parameter(self, name: str, role: Role, shape: tuple[int, ...], flattened: Flattened | None = None) -> int:
        self.n_elements += math.prod(shape)
        return 0

    def node(self, primitive: Primitive, sources: Sequence[int], name: str, *_: object, **__: object) -> int:
        return 0

    def part(self, name: str, x: int | None, run: Callable[[int], int], *, learns: bool = True) -> int | None:
        return run(0)

    def cell(self, cell: Cell, states: States[int], run: Callable[[States[int]], int | None]) -> int | None:
        key = (cell.channels, cell.width, cell.reduction, cell.halve)
        if key in self.counted:
            self.n_elements += self.counted[key]
        else:
            before = self.n_elements
            run(states)
            self.counted[key] = self.n_elements - before
        return 0
