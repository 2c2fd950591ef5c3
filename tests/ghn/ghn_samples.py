"""What the GHN's tests are tried on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnx_ghn.graph import ComputationGraph, Layout, Node, Parameter, Primitive, Role

GraphMaker = Callable[..., ComputationGraph]
SMALL = {"max_shape": (16, 12, 7, 7), "num_classes": 10}
# Every canonical shape that a weight may have, inside and outside max_shape.
WEIGHTS = [
    (8, 3, 3, 3), (40, 25, 1, 1), (16, 1, 5, 5), (5, 7, 2, 4), (20, 9), (33, 50), (4, 4, 1, 9),
    (4, 4, 9, 1),
    (3, 14, 15, 20), (1, 10, 24), (1, 9, 5), (1, 11, 24), (1, 7, 3), (1, 65, 8), (1, 6, 11, 11), (1, 6, 4, 4),
    (6, 2, 3), (7,), (2, 3, 4, 2, 3), (1, 1), (1, 1, 1, 1),
]  # fmt: skip


def random_graph(seed: int, n_nodes: int = 30, density: float = 0.1, chain: bool = True) -> ComputationGraph:
    """A random DAG of n nodes with weights, biases and norms, most of it along one chain."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n_nodes, n_nodes)) < density, 1)
    if chain:
        upper[np.arange(n_nodes - 1), np.arange(1, n_nodes)] |= rng.random(n_nodes - 1) < 0.8
    parameters: list[Parameter] = []

    def add(shape: tuple[int, ...], role: Role) -> int:
        parameters.append(Parameter(f"p{len(parameters)}", role, Layout(shape)))
        return len(parameters) - 1

    nodes = [Node(Primitive.input)]
    for _ in range(n_nodes - 3):
        kind = rng.choice(["weight", "bias", "norm", "pool", "sum"])
        if kind == "weight":
            shape = WEIGHTS[rng.integers(len(WEIGHTS))]
            table = shape[0] == 1 and len(shape) in (3, 4) and shape[1] > 1
            primitive = Primitive.pos_enc if table else Primitive.conv
            nodes.append(Node(primitive, shape, weight=add(shape, Role.weight)))
        elif kind == "bias":
            size = int(rng.integers(1, 50))
            nodes.append(Node(Primitive.bias, (size,), shift=add((size,), Role.bias)))
        elif kind == "norm":
            size = int(rng.integers(1, 50))
            scale, shift = add((size,), Role.norm_scale), add((size,), Role.norm_bias)
            nodes.append(Node(Primitive.bn, (size,), scale=scale, shift=shift))
        elif kind == "pool":
            nodes.append(Node(Primitive.max_pool, (1, 1, 3, 3)))
        else:
            nodes.append(Node(Primitive.sum))
    classes = int(rng.choice([4, 10, 23]))
    nodes.append(Node(Primitive.conv, (classes, 30), weight=add((classes, 30), Role.weight)))
    nodes.append(Node(Primitive.bias, (classes,), shift=add((classes,), Role.bias)))
    return ComputationGraph(tuple(nodes[:n_nodes]), np.argwhere(upper), tuple(parameters), f"random{seed}")
