"""Layers that a GHN cannot tell apart: they get equal weights, equal gradients, and learn the same for ever."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from onnx_ghn.graph import ComputationGraph

if TYPE_CHECKING:
    from onnx_ghn.ghn import Block

__all__ = ["find_twins"]


def find_twins(graph: ComputationGraph, blocks: Mapping[int, Block]) -> dict[int, int]:
    """Weights that are equal to another one which reads the same values: the gate of a gated MLP and its other half,
    keys and values. By their indices, the index of the first of them.

    Args:
        blocks: what the GHN decoded, by the index of the parameter.
    """
    before: list[list[int]] = [[] for _ in graph.nodes]
    for source, target in graph.edges.tolist():
        before[target].append(source)
    first: dict[tuple[object, ...], int] = {}
    twins: dict[int, int] = {}
    for number, node in enumerate(graph.nodes):
        block = blocks.get(node.weight) if node.weight is not None else None
        if block is None or node.weight is None or len(block.shape) < 2 or not before[number]:
            continue
        key = (tuple(before[number]), node.primitive, block.tiled, block.shape, block.values.tobytes())
        original = first.setdefault(key, node.weight)
        if original != node.weight:
            twins[node.weight] = original
    return twins
