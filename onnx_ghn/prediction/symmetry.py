"""Layers that a GHN cannot tell apart: they get equal weights, equal gradients, and learn the same for ever."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.graph import ComputationGraph
from onnx_ghn.prediction.making import TWIN_NOISE, Maker
from onnx_ghn.prediction.options import PredictOptions
from onnx_ghn.prediction.plan import Decision

if TYPE_CHECKING:
    from onnx_ghn.ghn import Block

__all__ = ["tell_apart"]

_ROUNDING = 1e-4  # of a block's spread


def tell_apart(
    graph: ComputationGraph, blocks: Mapping[int, Block], decisions: Sequence[Decision], options: PredictOptions
) -> tuple[list[Decision], list[str]]:
    """The decisions, where weights that would come out equal are told apart by noise, and a note on these.

    A tensor that repeats another one follows it. What `post` separates already is left to that.
    """
    if not any(decision.maker is not None and decision.maker.decodes for decision in decisions):
        return [*decisions], []  # without a look at what the GHN would give
    originals = _find_twins(graph, blocks)
    separated = {d.maker.index for d in decisions if d.maker is not None and d.maker.separates(options) != "none"}
    twins = {index for index in originals if index not in separated or not blocks[index].is_tiled}
    decided = [
        dataclasses.replace(decision, maker=_told_apart(decision.maker, twins))
        if decision.maker is not None
        else decision
        for decision in decisions
    ]
    makers = [decision.maker for decision in decided if decision.maker is not None]
    told = [
        maker
        for maker in makers
        # What is inherited keeps the donor's values.
        if maker.is_twin
        and maker.original is None
        and maker.index is not None
        and (maker.source != "donor" or maker.blend)
    ]
    if not told:
        return decided, []
    first = told[0].index
    assert first is not None
    twin, original = graph.parameters[first].name, graph.parameters[originals[first]].name
    what = "1 weight comes" if len(told) == 1 else f"{len(told)} weights come"
    return decided, [
        f"{what} out equal to one that reads the same values, first {twin} to {original}: noise of "
        f"{TWIN_NOISE:.0%} of their spread tells them apart"
    ]


def _told_apart(maker: Maker, twins: Collection[int]) -> Maker:
    followed = maker.following(lambda other: _told_apart(other, twins))
    return dataclasses.replace(followed, is_twin=maker.index in twins)


def _find_twins(graph: ComputationGraph, blocks: Mapping[int, Block]) -> dict[int, int]:
    """Weights that are equal to another one which reads the same values: the gate of a gated MLP and its other half,
    keys and values. By their indices, the index of the first of them.

    Args:
        blocks: what the GHN decoded, by the index of the parameter.
    """
    before: list[list[int]] = [[] for _ in graph.nodes]
    for source, target in graph.edges.tolist():
        before[target].append(source)
    firsts: dict[tuple[object, ...], list[int]] = {}
    twins: dict[int, int] = {}
    for number, node in enumerate(graph.nodes):
        block = blocks.get(node.weight) if node.weight is not None else None
        if block is None or node.weight is None or len(block.shape) < 2 or not before[number]:
            continue
        others = firsts.setdefault((tuple(before[number]), node.primitive, block.tiled, block.shape), [])
        original = next((index for index in others if _almost_equal(block, blocks[index])), None)
        if original is None:
            others.append(node.weight)
        elif original != node.weight:
            twins[node.weight] = original
    return twins


def _almost_equal(block: Block, other: Block) -> bool:
    """Whether two blocks of one shape differ by rounding at most.

    Sums over the nodes of a graph are taken in another order for each of two branches: their last bits differ, and
    gradient descent does not make more of that.
    """
    values, others = block.values, other.values  # (out, in, kh, kw) each, as large as the GHN decodes
    return values.shape == others.shape and bool(np.abs(values - others).max() <= _ROUNDING * values.std())
