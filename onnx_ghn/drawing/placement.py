"""Where the nodes of a picture stand.

Levels run in a serpentine, left to right and back, so that a net of 300 levels fills a page and is no needle.
Within a level, nodes are ordered by barycentre sweeps and stand beside their neighbours; skip connections are
arcs above or below their row.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence

from onnx_ghn.drawing.elements import MARGIN, Point
from onnx_ghn.graph.model import ComputationGraph

__all__ = ["Fold", "levels_of", "place_nodes"]

_STEP, _LABELLED_STEP = 36.0, 58.0  # between levels
_LANE, _LABELLED_LANE = 30.0, 42.0  # between nodes of one level
_LABEL_ROOM = 14.0
_ROW_GAP = 26.0
_ASPECT = 1.6  # width : height that the folding aims at
_MAX_CANDIDATES = 60  # foldings that are tried: thousands of levels look alike in many


def place_nodes(graph: ComputationGraph, level: Sequence[int], *, labelled: bool) -> Fold:
    """The least ugly folding of a graph whose nodes have those levels.

    Args:
        level: `levels_of(graph)`.
        labelled: leave room for a line under each node.
    """
    heights = _heights(graph, level, _LABELLED_LANE if labelled else _LANE)
    step = _LABELLED_STEP if labelled else _STEP
    n_levels = max(level, default=0) + 1
    folds = (_fold(graph, level, heights, columns, step, labelled) for columns in _column_counts(n_levels))
    return min(folds, key=_ugliness)


def levels_of(graph: ComputationGraph) -> list[int]:
    """Levels of the picture: a table that nothing feeds stands right before what reads it."""
    level: list[int] = graph.levels.tolist()
    targets = set(graph.edges[:, 1].tolist())
    readers: dict[int, list[int]] = collections.defaultdict(list)
    for a, b in graph.edges.tolist():
        readers[a].append(level[b])
    for i in range(1, len(graph)):
        if i not in targets and readers[i]:
            level[i] = max(0, min(readers[i]) - 1)
    return level


def _heights(graph: ComputationGraph, level: Sequence[int], lane: float) -> list[float]:
    """Offset of each node from the middle of its row: near its neighbours, a lane from the next."""
    before: list[list[int]] = [[] for _ in graph.nodes]
    after: list[list[int]] = [[] for _ in graph.nodes]
    for a, b in graph.edges.tolist():
        before[b].append(a)
        after[a].append(b)
    ranks: list[list[int]] = [[] for _ in range(max(level, default=0) + 1)]
    for i, rank in enumerate(level):
        ranks[rank].append(i)
    y = [0.0] * len(graph)
    for rank_nodes in ranks:
        for place, i in enumerate(rank_nodes):
            y[i] = (place - (len(rank_nodes) - 1) / 2) * lane

    for sweep in range(8):
        near, order = (before, ranks) if sweep % 2 == 0 else (after, ranks[::-1])
        for nodes in order:
            if len(nodes) == 1 and len(near[nodes[0]]) != 1:
                y[nodes[0]] = 0.0  # where branches meet, back to the middle
                continue
            wish = {i: sum(y[j] for j in near[i]) / len(near[i]) if near[i] else y[i] for i in nodes}
            nodes.sort(key=lambda i: (wish[i], y[i]))
            for i, height in zip(nodes, _apart([wish[i] for i in nodes], lane), strict=True):
                y[i] = height
    return y


def _apart(wishes: list[float], lane: float) -> list[float]:
    """The heights nearest to ascending wishes that are a lane apart (isotonic regression)."""
    blocks: list[tuple[float, int]] = []  # (mean of wish − place · lane, length)
    for place, wish in enumerate(wishes):
        mean, n = wish - place * lane, 1
        while blocks and blocks[-1][0] >= mean:
            last, m = blocks.pop()
            mean, n = (last * m + mean * n) / (m + n), m + n
        blocks.append((mean, n))
    flat = [mean for mean, n in blocks for _ in range(n)]
    return [value + place * lane for place, value in enumerate(flat)]


@dataclasses.dataclass(frozen=True)
class Fold:
    """Where nodes stand once levels are folded into rows.

    Attributes:
        columns: levels in a row.
        width, height: of all rows.
        at: the place of each node.
        arcs: of skip connections inside a row, the height of their control points.
        crossing: edges from row to row, on average.
        blank: share of the last row that is empty.
    """

    columns: int
    width: float
    height: float
    at: list[Point]
    arcs: dict[tuple[int, int], float]
    crossing: float
    blank: float


def _column_counts(n_levels: int) -> list[int]:
    """Column counts: for each number of rows the one that fills the last best, and a few above."""
    fullest = {math.ceil(n_levels / rows) for rows in range(1, math.isqrt(n_levels) + 2)}
    counts = sorted({columns + more for columns in fullest for more in range(4) if columns + more <= n_levels})
    return counts[:: math.ceil(len(counts) / _MAX_CANDIDATES)] if counts else counts


def _ugliness(fold: Fold) -> float:
    """How far from the wished aspect ratio, how many edges lead from row to row, how empty the last row is."""
    aspect = (fold.width + 2 * MARGIN) / (fold.height + 100)
    return abs(math.log(aspect / _ASPECT)) + 0.15 * math.log2(fold.crossing) + 0.3 * fold.blank**2


def _fold(
    graph: ComputationGraph,
    level: Sequence[int],
    heights: Sequence[float],
    columns: int,
    step: float,
    labelled: bool,
) -> Fold:
    """Rows of that many levels, every other one from right to left."""
    n_rows = max(level, default=0) // columns + 1
    # Rows from right to left are upside down, so that lanes turn like a ribbon and do not cross.
    heights = [-y if rank // columns % 2 else y for y, rank in zip(heights, level, strict=True)]
    room = 12.0
    above, below = [-room] * n_rows, [room + (_LABEL_ROOM if labelled else 0.0)] * n_rows
    tops: dict[int, tuple[float, float]] = {}  # level -> extent of its nodes
    for i, rank in enumerate(level):
        low, high = tops.get(rank, (0.0, 0.0))
        tops[rank] = (min(low, heights[i]), max(high, heights[i]))
        row = rank // columns
        above[row] = min(above[row], heights[i] - room)
        below[row] = max(below[row], heights[i] + room + (_LABEL_ROOM if labelled else 0.0))
    arcs: dict[tuple[int, int], float] = {}
    crossing = 0
    for a, b in graph.edges.tolist():
        row, span = level[a] // columns, level[b] - level[a]
        crossing += level[b] // columns != row
        if span < 2 or level[b] // columns != row:
            continue
        between = [tops[rank] for rank in range(level[a] + 1, level[b])]
        ends = (heights[a], heights[b])
        up, down = min(low for low, _ in between), max(high for _, high in between)
        over = 9.0 + 7.0 * math.sqrt(span)
        if sum(ends) / 2 <= (up + down) / 2:
            clear = min(up, *ends) - over
        else:
            clear = max(down, *ends) + over + (_LABEL_ROOM if labelled else 0.0)
        # A cubic curve gets three quarters of the way to its control points.
        arcs[a, b] = (clear - sum(ends) / 8) / 0.75
        above[row], below[row] = min(above[row], clear), max(below[row], clear)
    middles, y = [], 0.0
    for up, down in zip(above, below, strict=True):
        middles.append(y - up)
        y += down - up + _ROW_GAP
    at = []
    for i, rank in enumerate(level):
        row, column = divmod(rank, columns)
        at.append(((column if row % 2 == 0 else columns - 1 - column) * step + 14, middles[row] + heights[i]))
    arcs = {(a, b): middles[level[a] // columns] + height for (a, b), height in arcs.items()}
    width = (columns - 1) * step + 28
    blank = 1 - (max(level, default=0) % columns + 1) / columns
    return Fold(columns, width, y - _ROW_GAP, at, arcs, max(1.0, crossing / max(1, n_rows - 1)), blank)
