"""From an architecture to its computational graph, without building a network.

The graph is that which `build_graph` reads from the network's ONNX export; names and shapes are the network's.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.walk import Value, Walk, parse_operation
from onnx_ghn.errors import GraphError
from onnx_ghn.graph.model import ComputationGraph, Flattened, Parameter, Primitive, Role

__all__ = [
    "PRUNED",
    "count_trainable",
    "n_trainable",
    "parse_operation",
    "symbolic_graph",
    "trainable_parameters",
]

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
    walk = Walk(architecture, num_classes, large_images)
    (end,) = walk.output().sources
    alive = [False] * len(walk.nodes)
    alive[end] = True
    for source, target in reversed(walk.edges):  # those that leave a node come after those that reach it
        if alive[target]:
            alive[source] = True
    if not alive[0]:
        raise GraphError("the network's output does not depend on its input: `none` operations cut every path")
    nodes, edges, parameters = walk.nodes, walk.edges, walk.parameters
    if not all(alive):
        walk.cut.update(i for node, kept in zip(nodes, alive, strict=True) if not kept for i in node.parameters)
        number = list(itertools.accumulate(alive, initial=0))  # of a kept node: how many are kept before it
        nodes = list(itertools.compress(nodes, alive))
        edges = [(number[a], number[b]) for a, b in edges if alive[a] and alive[b]]
    for i in walk.cut:
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
    walk = Walk(architecture, num_classes, large_images)
    walk.output()
    return tuple(walk.parameters)


def n_trainable(graph: ComputationGraph) -> int:
    """Trainable elements, pruned ones included, as the published generator counts them."""
    return sum(math.prod(parameter.layout.stored) for parameter in graph.parameters)


def count_trainable(architecture: Architecture, num_classes: int = 10, *, large_images: bool = False) -> int:
    """`n_trainable` of an architecture's graph, without the graph."""
    walk = _Count(architecture, num_classes, large_images)
    walk.output()
    return walk.n_elements


class _Count(Walk):
    """The walk that only counts. Cells of the same kind and sizes are counted once."""

    n_elements = 0

    def __init__(self, architecture: Architecture, num_classes: int, large_images: bool) -> None:
        super().__init__(architecture, num_classes, large_images)
        self.counted: dict[tuple[object, ...], int] = {}

    def parameter(self, name: str, role: Role, shape: tuple[int, ...], flattened: Flattened | None = None) -> int:
        self.n_elements += math.prod(shape)
        return 0

    def node(self, primitive: Primitive, sources: tuple[int, ...], channels: int, *_: object, **__: object) -> Value:
        return Value((0,), channels)

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
        key = (channels, width, reduction, reduction_prev)
        if key not in self.counted:
            before = self.n_elements
            super().cell(number, s0, s1, channels, width, reduction, reduction_prev)
            self.counted[key] = self.n_elements - before
        else:
            self.n_elements += self.counted[key]
        concat = self.arch.genotype.reduce_concat if reduction else self.arch.genotype.normal_concat
        return Value((0,), len(concat) * width)
