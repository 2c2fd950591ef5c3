"""The order of message passing: levels of nodes that don't see each other, aligned over a batch of graphs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from onnx_ghn.arrays import Array
from onnx_ghn.errors import GraphError
from onnx_ghn.graph.model import ComputationGraph
from onnx_ghn.limits import gib, memory_bytes

__all__ = ["Level", "Sweep", "planned_sweep"]

_Array = TypeVar("_Array")  # numpy's, or a tensor

_BAND_SIZE = 1 << 22  # distances that are worked on at once


@dataclasses.dataclass(frozen=True)
class Level(Generic[_Array]):
    """The nodes that are updated in one step. B graphs, each padded to `stop - start` nodes of this level.

    Attributes:
        start, stop: slots of the level in each graph's padded order.
        first: lowest slot that any of them hears; messages come from slots first to start.
        weights: (B, stop - start, K * (start - first)) of each heard slot's K messages; None if none.
    """

    start: int
    stop: int
    first: int
    weights: _Array | None


@dataclasses.dataclass(frozen=True)
class Sweep(Generic[_Array]):
    """One traversal of a batch of graphs, forward or backward.

    Attributes:
        levels: in the order of their update.
        n_graphs: B.
        n_slots: P, nodes of a graph when padded level by level.
        rows: (N,) for each node of the batch its row in the level-major (P * B) order: all graphs' slots of
            the first level, then those of the second.
    """

    levels: tuple[Level[_Array], ...]
    n_graphs: int
    n_slots: int
    rows: _Array


def _levels_to_sink(graph: ComputationGraph) -> npt.NDArray[np.int64]:
    """(N,) length of the longest path that starts in each node."""
    level = [0] * len(graph)
    for source, target in reversed(graph.edges.tolist()):
        level[source] = max(level[source], level[target] + 1)
    return np.array(level, dtype=np.int64)


def planned_sweep(
    graphs: Sequence[ComputationGraph],
    distances: Sequence[npt.NDArray[np.int32]],
    *,
    backward: bool,
    virtual: bool,
) -> Sweep[Array]:
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

    slots, rows = [], []
    for b, (level, count) in enumerate(zip(of_node, counts, strict=True)):
        order = np.argsort(level, kind="stable")
        rank = np.empty_like(order)  # of a node among those of its level
        rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
        slots.append(offsets[level] + rank)
        rows.append(offsets[level] * n_graphs + b * widths[level] + rank)

    k = 2 if virtual else 1
    sources = [distance if backward else distance.T for distance in distances]  # (N, N) [listener, speaker]
    bounds = list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
    spans, blocks = [], []
    for begin, end in _bands(bounds, n_graphs * n_slots):
        band = bounds[begin:end]
        at, n_listening = band[0][0], band[-1][1] - band[0][0]
        # (B, R, P) distance, [graph, listener of the band, speaker]
        heard = np.zeros((n_graphs, n_listening, n_slots), dtype=np.float32)
        for b, (source, slot) in enumerate(zip(sources, slots, strict=True)):
            nodes = np.flatnonzero((slot >= at) & (slot < at + n_listening))
            heard[b, (slot[nodes] - at)[:, None], slot[None, :]] = source[nodes]
        each = np.empty((*heard.shape, k), dtype=np.float32)
        each[..., 0] = heard == 1
        if virtual:
            each[..., 1] = np.divide(1, heard, out=np.zeros_like(heard), where=heard > 0)
        weights = each.reshape(n_graphs, n_listening, n_slots * k)

        hears = np.asarray((heard > 0).any(axis=0))  # (R, P)
        lowest = np.where(hears.any(axis=1), hears.argmax(axis=1), n_slots)  # (R,) lowest slot that a slot hears
        first = np.minimum.reduceat(lowest, [start - at for start, _ in band])  # one for each level
        for (start, stop), low in zip(band, first.tolist(), strict=True):
            low = min(low, start)
            spans.append((start, stop, low))
            blocks.append(weights[:, start - at : stop - at, low * k : start * k].copy())
        _check_memory(4 * sum(block.size for block in blocks), n_slots)
    levels = tuple(
        Level(start, stop, low, block if block.size else None)
        for (start, stop, low), block in zip(spans, blocks, strict=True)
    )
    return Sweep(levels, n_graphs, n_slots, np.concatenate(rows))


def _bands(bounds: Sequence[tuple[int, int]], row_size: int) -> Iterator[tuple[int, int]]:
    """Levels that are worked out at once, from one to another: of small graphs all, of large ones a few at a time.

    In a deep graph with a cutoff a level hears a few others, so that beside the distances little is in memory.
    """
    begin = 0
    for index in range(len(bounds)):
        last = index + 1 == len(bounds)
        if last or (bounds[index + 1][1] - bounds[begin][0]) * row_size > _BAND_SIZE:
            yield begin, index + 1
            begin = index + 1


def _check_memory(held_bytes: int, n_nodes: int) -> None:
    """Raises GraphError. There are two sweeps, and each block is copied once."""
    needed_bytes = 4 * held_bytes
    if needed_bytes > memory_bytes():
        raise GraphError(
            f"a graph of {n_nodes:,} nodes needs {gib(needed_bytes)} for the messages between them, and there are "
            f"{gib(memory_bytes())}: take a machine with more memory"
        )
