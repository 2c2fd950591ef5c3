"""Predictions without a GHN, and graphs of any size, for pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnx_ghn.graph import ComputationGraph, Layout, Node, Parameter, Primitive, Role
from onnx_ghn.prediction.coverage import CoverageReport
from onnx_ghn.prediction.plan import Decision
from onnx_ghn.prediction.result import Prediction

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><!-- \u202e $script ${data} \x00 \"'"


def residual_graph(n_blocks: int, width: int = 8, prefix: str = "layers.") -> ComputationGraph:
    """A stem, n residual blocks of two convolutions with batch norms (5 nodes each), and a head of three nodes."""
    nodes = [Node(Primitive.input, name="input")]
    parameters: list[Parameter] = []
    edges: list[tuple[int, int]] = []

    def add(node: Node, *before: int) -> int:
        nodes.append(node)
        edges.extend((source, len(nodes) - 1) for source in before)
        return len(nodes) - 1

    def parameter(name: str, role: Role, *shape: int) -> int:
        parameters.append(Parameter(name, role, Layout(shape), op="Conv"))
        return len(parameters) - 1

    def conv(name: str, before: int, n_in: int) -> int:
        weight = parameter(f"{name}.weight", Role.weight, width, n_in, 3, 3)
        return add(Node(Primitive.conv, (width, n_in, 3, 3), weight=weight, name=f"{name}.weight"), before)

    def norm(name: str, before: int) -> int:
        scale = parameter(f"{name}.weight", Role.norm_scale, width)
        shift = parameter(f"{name}.bias", Role.norm_bias, width)
        parameter(f"{name}.mean", Role.statistic, width)
        return add(Node(Primitive.bn, (width,), scale=scale, shift=shift, name=f"{name}.weight"), before)

    x = conv(f"{prefix}stem", 0, 3)
    for i in range(n_blocks):
        y = norm(f"{prefix}{i}.bn1", conv(f"{prefix}{i}.conv1", x, width))
        y = norm(f"{prefix}{i}.bn2", conv(f"{prefix}{i}.conv2", y, width))
        x = add(Node(Primitive.sum, name=f"{prefix}{i}.add"), x, y)
    x = add(Node(Primitive.glob_avg, name="pool"), x)
    weight = parameter("head.weight", Role.weight, 10, width)
    x = add(Node(Primitive.conv, (10, width), weight=weight, name="head.weight"), x)
    bias = parameter("head.bias", Role.bias, 10)
    add(Node(Primitive.bias, (10,), shift=bias, name="head.bias"), x)
    return ComputationGraph(tuple(nodes), np.array(edges), tuple(parameters), "net")


def drawn_prediction(graph: ComputationGraph, seed: int = 0, std: float = 0.05) -> Prediction:
    """Normal numbers for every tensor that a node decodes, and no GHN."""
    rng = np.random.default_rng(seed)
    decoded = graph.decoded_parameters()
    entries: list[Decision] = []
    tensors: dict[str, Callable[[], Any]] = {}
    for i, parameter in enumerate(graph.parameters):
        if parameter.role is Role.statistic:
            entries.append(Decision(parameter, "statistic"))
            continue
        if i in decoded:
            entries.append(Decision(parameter, "predicted"))
            values = (std * rng.standard_normal(parameter.shape)).astype(np.float32)
            tensors[parameter.name] = lambda values=values: values
        else:
            entries.append(Decision(parameter, "kept", "no node decodes it"))
    return Prediction(None, graph, tensors, CoverageReport(entries), "drawn")  # type: ignore[arg-type]
