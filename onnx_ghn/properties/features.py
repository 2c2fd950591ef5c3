"""What properties are predicted from: the GHN's embedding of a graph, and counts that anybody would look at first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnx_ghn.graph.model import ComputationGraph, Primitive

if TYPE_CHECKING:
    from onnx_ghn.ghn import GHN, ArrayGHN

__all__ = ["STATISTICS", "Floats", "graph_embeddings", "graph_statistics", "n_decoded"]

Floats = npt.NDArray[np.float64]

#: Names of what `graph_statistics` gives: logarithms, since networks differ by factors.
STATISTICS = ("log_params", "log_macs", "log_depth", "log_nodes", *(f"log_{primitive.name}" for primitive in Primitive))
_PAIRS_AT_ONCE = 200_000  # of nodes, in graphs that are embedded together: their attention then stays in the cache


def n_decoded(graph: ComputationGraph) -> int:
    """Trainable elements of the nodes of a graph; those that lead nowhere are left out, as exporters do."""
    return sum(graph.parameters[i].size for i in graph.decoded_parameters())


def graph_statistics(graph: ComputationGraph, n_macs: int) -> Floats:
    """(19,) log(1 + x) of parameters, multiply-accumulates, longest path, nodes, and nodes of each kind."""
    counts = np.bincount(graph.primitives, minlength=len(Primitive))
    figures = (n_decoded(graph), n_macs, int(graph.levels.max(initial=0)), len(graph), *counts.tolist())
    return np.array([math.log1p(figure) for figure in figures])


def graph_embeddings(ghn: GHN | ArrayGHN, graphs: Sequence[ComputationGraph]) -> Floats:
    """(n, hid) mean node embeddings after message passing (facebookresearch/ppuda, property_prediction.py).

    Raises:
        GraphError: a graph without nodes.
    """
    order = sorted(range(len(graphs)), key=lambda i: len(graphs[i]))  # of like sizes together: little padding
    found = np.empty((len(graphs), ghn.config.hid))
    while order:
        n = max(1, _PAIRS_AT_ONCE // max(len(graphs[order[-1]]), 1) ** 2)
        order, mine = order[:-n], order[-n:]
        for i, nodes in zip(mine, ghn.embeddings([graphs[i] for i in mine]), strict=True):
            found[i] = nodes.astype(np.float64).mean(axis=0)
    return found
