"""The order of message passing: levels of nodes that don't see each other, aligned over a batch of graphs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from onnx_ghn.graph.model import ComputationGraph

__all__ = ["Level", "Sweep", "sweep_of"]


@dataclasses.dataclass(frozen=True)
class Level:
    """The nodes that are updated in one step. B graphs, each padded to `stop - start` nodes of this level.

    Attributes:
        start, stop: slots of the level in each graph's padded order.
        first: lowest slot that any of them hears; messages come from slots first to start.
        weights: (B, stop - start, K * (start - first)) of each heard slot's K messages; None if none.
    """

    start: int
    stop: int
    first: int
    weights: Tensor | None


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One traversal of a batch of graphs, forward or backward.

    Attributes:
        levels: in the order of their update.
        n_graphs: B.
        n_slots: P, nodes of a graph when padded level by level.
        rows: (N,) for each node of the batch its row in the level-major (P * B) order: all graphs' slots of
            the first level, then those of the second.
    """

    levels: tuple[Level, ...]
    n_graphs: int
    n_slots: int
    rows: Tensor


def _levels_to_sink(graph: ComputationGraph) -> npt.NDArray[np.int64]:
    """(N,) length of the longest path that starts in each node."""
    level = [0] * len(graph)
    for source, target in reversed(graph.edges.tolist()):
        level[source] = max(level[source], level[target] + 1)
    return np.array(level, dtype=np.int64)


def sweep_of(
    graphs: Sequence[ComputationGraph],
    distances: Sequence[npt.NDArray[np.int32]],
    *,
    backward: bool,
    virtual: bool,
    device: torch.device,
) -> Sweep:
    """Plan a traversal.

    A node's level is the length of the longest path that reaches it (backward: that leaves it), so all that
    it hears, over 1-hop or virtual edges, has a lower level. Updating level by level therefore gives what
    the published traversal, node by node in topological order, gives (facebookresearch/ppuda,
    ppuda/ghn/gatedgnn.py).

    Args:
        graphs: B graphs, none empty.
        distances: for each (N, N) distances, 0 for no edge (`ComputationGraph.distances`).
        virtual: K = 2 messages a node, for 1-hop edges and for all edges weighted by 1/distance (Knyazev et
            al. 2021, eq. 4); otherwise K = 1, for 1-hop edges.
    """
    of_node = [_levels_to_sink(graph) if backward else graph.levels for graph in graphs]
    n_levels = max(int(level.max()) for level in of_node) + 1
    counts = np.stack([np.bincount(level, minlength=n_levels) for level in of_node])  # (B, L)
    widths = counts.max(axis=0)  # (L,)
    offsets = np.concatenate([[0], np.cumsum(widths)])
    n_graphs, n_slots = len(graphs), int(offsets[-1])

    heard = np.zeros((n_graphs, n_slots, n_slots), dtype=np.float32)  # distance, [graph, listener, speaker]
    rows = []
    for b, (level, distance, count) in enumerate(zip(of_node, distances, counts, strict=True)):
        order = np.argsort(level, kind="stable")
        rank = np.empty_like(order)  # of a node among those of its level
        rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
        slot = offsets[level] + rank
        heard[b, slot[:, None], slot[None, :]] = distance if backward else distance.T
        rows.append(offsets[level] * n_graphs + b * widths[level] + rank)

    k = 2 if virtual else 1
    each = np.empty((n_graphs, n_slots, n_slots, k), dtype=np.float32)
    each[..., 0] = heard == 1
    if virtual:
        each[..., 1] = np.divide(1, heard, out=np.zeros_like(heard), where=heard > 0)
    weights = each.reshape(n_graphs, n_slots, n_slots * k)

    hears = np.asarray((heard > 0).any(axis=0))  # (P, P)
    lowest = np.where(hears.any(axis=1), hears.argmax(axis=1), n_slots)  # (P,) lowest slot that a slot hears
    first = np.minimum.reduceat(lowest, offsets[:-1])  # (L,)

    spans, blocks = [], []
    for start, stop, low in zip(offsets[:-1].tolist(), offsets[1:].tolist(), first.tolist(), strict=True):
        low = min(low, start)
        spans.append((start, stop, low))
        blocks.append(weights[:, start:stop, low * k : start * k])
    # One tensor for all blocks: one copy to the device, not one a level.
    flat = torch.from_numpy(np.concatenate([block.ravel() for block in blocks])).to(device)
    parts = flat.split_with_sizes([block.size for block in blocks])
    levels = tuple(
        Level(start, stop, low, part.view(block.shape) if block.size else None)
        for (start, stop, low), block, part in zip(spans, blocks, parts, strict=True)
    )
    return Sweep(levels, n_graphs, n_slots, torch.from_numpy(np.concatenate(rows)).to(device))
