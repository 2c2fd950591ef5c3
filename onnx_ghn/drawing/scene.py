"""The picture of a graph as curves, marks and texts, the same for every file format.

Levels run in a serpentine, left to right and back, so that a net of 300 levels fills a page and is no needle.
Within a level, nodes are ordered by barycentre sweeps and stand beside their neighbours; skip connections are
arcs above or below their row.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterator, Sequence

from onnx_ghn.drawing.palette import LOOKS, Look, look_of, radius
from onnx_ghn.graph.model import ComputationGraph, Node, Primitive, Role

__all__ = ["Curve", "Mark", "Scene", "Text", "compose", "label_of"]

Point = tuple[float, float]

_STEP, _LABELLED_STEP = 36.0, 58.0  # between levels
_LANE, _LABELLED_LANE = 30.0, 42.0  # between nodes of one level
_LABEL_ROOM = 14.0
_ROW_GAP = 26.0
_MARGIN = 36.0
_ASPECT = 1.6  # width : height that the folding aims at
_LABELS_UP_TO = 100  # nodes
_MAX_CANDIDATES = 60  # foldings that are tried: thousands of levels look alike in many
_INK, _MUTED, _WIRE = "#1c2128", "#6a7482", "#98a3b0"
#: What exporters call a graph when nobody named it.
_NAMELESS = frozenset({"", "main_graph", "torch_jit", "torch-jit-export", "graph", "g"})


@dataclasses.dataclass(frozen=True)
class Curve:
    """A cubic Bézier curve for an edge; `arrow` is its tip where it ends in an arrow head."""

    points: tuple[Point, Point, Point, Point]
    colour: str
    width: float
    alpha: float
    edge: tuple[int, int]
    arrow: tuple[Point, Point, Point] | None = None


@dataclasses.dataclass(frozen=True)
class Mark:
    """A node: `title` appears where the pointer rests on it."""

    x: float
    y: float
    r: float
    look: Look
    title: str = ""


@dataclasses.dataclass(frozen=True)
class Text:
    """One line; `anchor` is start or middle."""

    x: float
    y: float
    text: str
    size: float
    colour: str = _INK
    anchor: str = "start"
    bold: bool = False


@dataclasses.dataclass(frozen=True)
class Scene:
    """Everything to draw, from back to front: curves, marks, texts. The y axis points down."""

    width: float
    height: float
    name: str
    curves: list[Curve]
    marks: list[Mark]
    texts: list[Text]


def compose(graph: ComputationGraph, fallback_name: str, labels: bool | None = None, *, header: bool = True) -> Scene:
    """Lay a graph out. `labels`: kernel and channels under each node (None: in graphs of up to 100 nodes).

    Without `header` the scene has neither title nor legend, and its marks are the nodes, in their order.
    """
    labelled = len(graph) <= _LABELS_UP_TO if labels is None else labels
    level = _levels(graph)
    heights = _heights(graph, level, _LABELLED_LANE if labelled else _LANE)
    sizes = [radius(graph, node) for node in graph.nodes]
    step = _LABELLED_STEP if labelled else _STEP
    n_levels = max(level, default=0) + 1
    folds = (_fold(graph, level, heights, columns, step, labelled) for columns in _candidates(n_levels))
    fold = min(folds, key=_ugliness)
    name = fallback_name if graph.name in _NAMELESS else graph.name
    width = max(fold.width, 430.0 if header else 0.0) + 2 * _MARGIN
    big = min(2.2, max(1.0, width / 1100))
    header_marks, header_texts, top = _header(graph, name, width, big) if header else ([], [], _MARGIN)
    left = (width - fold.width) / 2
    at = [(left + x, top + y) for x, y in fold.at]
    marks = [
        Mark(x, y, r, look_of(node), _title(graph, node))
        for node, (x, y), r in zip(graph.nodes, at, sizes, strict=True)
    ]
    texts = list(header_texts)
    if labelled:
        texts += [
            Text(x, y + r + 11, label, 8.0, _MUTED, "middle")
            for node, (x, y), r in zip(graph.nodes, at, sizes, strict=True)
            if (label := label_of(node))
        ]
    curves = list(_curves(graph, level, at, sizes, fold))
    return Scene(width, top + fold.height + _MARGIN, name, curves, [*header_marks, *marks], texts)


# -- where nodes stand -------------------------------------------------------------------------------------


def _levels(graph: ComputationGraph) -> list[int]:
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
class _Fold:
    columns: int
    width: float
    height: float
    at: list[Point]
    arcs: dict[tuple[int, int], float]  # skip connections inside a row: height of their control points
    crossing: float  # edges from row to row, on average
    blank: float  # share of the last row


def _candidates(n_levels: int) -> list[int]:
    """Column counts: for each number of rows the one that fills the last best, and a few above."""
    fullest = {math.ceil(n_levels / rows) for rows in range(1, math.isqrt(n_levels) + 2)}
    found = sorted({columns + more for columns in fullest for more in range(4) if columns + more <= n_levels})
    return found[:: math.ceil(len(found) / _MAX_CANDIDATES)] if found else found


def _ugliness(fold: _Fold) -> float:
    """How far from the wished aspect ratio, how many edges lead from row to row, how empty the last row is."""
    aspect = (fold.width + 2 * _MARGIN) / (fold.height + 100)
    return abs(math.log(aspect / _ASPECT)) + 0.15 * math.log2(fold.crossing) + 0.3 * fold.blank**2


def _fold(
    graph: ComputationGraph,
    level: Sequence[int],
    heights: Sequence[float],
    columns: int,
    step: float,
    labelled: bool,
) -> _Fold:
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
    return _Fold(columns, width, y - _ROW_GAP, at, arcs, max(1.0, crossing / max(1, n_rows - 1)), blank)


# -- edges -------------------------------------------------------------------------------------------------


def _curves(
    graph: ComputationGraph,
    level: Sequence[int],
    at: Sequence[Point],
    sizes: Sequence[float],
    fold: _Fold,
) -> Iterator[Curve]:
    shift = at[0][1] - fold.at[0][1] if at else 0.0
    fine = min(1.0, max(0.5, math.sqrt(500 / max(1, len(graph.edges)))))
    for a, b in sorted(graph.edges.tolist(), key=lambda e: level[e[0]] - level[e[1]]):  # long ones at the back
        (xa, ya), (xb, yb) = at[a], at[b]
        row_a, row_b = level[a] // fold.columns, level[b] // fold.columns
        if (a, b) in fold.arcs:
            top, inset = fold.arcs[a, b] + shift, (xb - xa) * 0.12
            inner = (xa + inset, top), (xb - inset, top)
        elif row_a == row_b:
            half = (xb - xa) / 2
            inner = (xa + half, ya), (xb - half, yb)
        elif level[b] - level[a] == 1:  # around the end of a row
            reach = 10 + 0.14 * abs(yb - ya)  # the outer lane goes further out
            out = xa + reach if row_a % 2 == 0 else xa - reach
            inner = (out, ya), (out, yb)
        else:
            half = (yb - ya) / 2
            inner = (xa, ya + half), (xb, yb - half)
        if level[b] - level[a] == 1:
            points = ((xa, ya), *inner, (xb, yb))
            yield Curve(points, _WIRE, 1.3, 1.0, (a, b), _arrow(points, sizes[b] * 1.18 + 1.2))
        else:
            colour = look_of(graph.nodes[a]).colour
            yield Curve(((xa, ya), *inner, (xb, yb)), colour, 0.5 + 0.6 * fine, 0.5 * fine, (a, b))


def _arrow(points: tuple[Point, Point, Point, Point], gap: float) -> tuple[Point, Point, Point]:
    """A small head on a curve; its tip stays `gap` short of the end."""
    x, y = _near_end(points, gap)
    bx, by = _near_end(points, gap + 5.5)
    length = math.hypot(x - bx, y - by) or 1.0
    dx, dy = 2.7 * (x - bx) / length, 2.7 * (y - by) / length
    return (x, y), (bx - dy, by + dx), (bx + dy, by - dx)


def _near_end(points: tuple[Point, Point, Point, Point], distance: float) -> Point:
    """The last point of a curve that is so far from its end."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if math.dist(_on(points, middle), points[3]) > distance:
            low = middle
        else:
            high = middle
    return _on(points, low)


def _on(points: tuple[Point, Point, Point, Point], t: float) -> Point:
    a, b, c, d = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3
    x, y = (a * p + b * q + c * r + d * s for p, q, r, s in zip(*points, strict=True))
    return x, y


# -- words -------------------------------------------------------------------------------------------------


def _header(graph: ComputationGraph, name: str, width: float, big: float) -> tuple[list[Mark], list[Text], float]:
    """Title, numbers, and the legend of what the picture holds."""
    texts = [Text(_MARGIN, _MARGIN + 14 * big, name, 20 * big, bold=True)]
    texts.append(Text(_MARGIN, _MARGIN + 35 * big, _numbers(graph), 11.5 * big, _MUTED))
    counts: collections.Counter[Look] = collections.Counter(look_of(node) for node in graph.nodes)
    families = [look.colour for look in LOOKS.values()]
    marks: list[Mark] = []
    x, y = _MARGIN + 7 * big, _MARGIN + 62 * big
    for look in sorted(counts, key=lambda look: (families.index(look.colour), look.shape)):
        entry = f"{look.label}\u2002{counts[look]:,}"
        length = (13 + _ems(entry) * 11.5) * big
        if x + length > width - _MARGIN and marks:
            x, y = _MARGIN + 7 * big, y + 22 * big
        marks.append(Mark(x, y, 6.2 * big, look))
        texts.append(Text(x + 13 * big, y + 4 * big, entry, 11.5 * big))
        x += length + 22 * big
    return marks, texts, y + 34 * big


def _ems(text: str) -> float:
    """About how wide a text is, in units of its size: fonts differ, and the picture knows none."""
    return sum(0.36 if c in "ijltfr,.- " else 0.95 if c in "mwMW" else 0.62 for c in text)


def _numbers(graph: ComputationGraph) -> str:
    elements = sum(p.size for p in graph.parameters if p.role is not Role.statistic)
    parts = [f"{len(graph):,} nodes", f"{len(graph.edges):,} edges"]
    if graph.parameters:
        parts.append(f"{_short(elements)} trainable elements")
    return " · ".join(parts)


def _short(number: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def label_of(node: Node) -> str:
    """Kernel and channels, as in the figures of the residual-network paper: "3×3, 64"."""
    if node.shape is None:
        return ""
    if node.primitive in (Primitive.max_pool, Primitive.avg_pool):
        return "×".join(map(str, node.shape[2:]))
    if node.primitive is Primitive.pos_enc:
        return "×".join(map(str, node.shape[-2:]))
    kernel = node.shape[2:]
    return f"{'×'.join(map(str, kernel))}, {node.shape[0]}" if math.prod(kernel) > 1 else str(node.shape[0])


def _title(graph: ComputationGraph, node: Node) -> str:
    lines = [f"{node.primitive.name}: {node.name}" if node.name else node.primitive.name]
    if node.shape is not None:
        lines.append(" × ".join(map(str, node.shape)))
    elements = sum(graph.parameters[i].size for i in node.parameters)
    if elements:
        lines.append(f"{elements:,} parameters")
    return "\n".join(lines)
