"""The edges of a picture as curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from onnx_ghn.drawing.elements import Curve, Point
from onnx_ghn.drawing.palette import look_of
from onnx_ghn.drawing.placement import Fold
from onnx_ghn.graph.model import ComputationGraph

__all__ = ["curves"]

_WIRE = "#98a3b0"


def curves(
    graph: ComputationGraph,
    level: Sequence[int],
    at: Sequence[Point],
    sizes: Sequence[float],
    fold: Fold,
) -> Iterator[Curve]:
    """A curve for each edge, the long ones first, at the back.

    Args:
        level: `placement.levels_of(graph)`.
        at: the place of each node in the picture.
        sizes: the radius of each node.
        fold: `placement.place_nodes(graph, level)`, whose places `at` moves.
    """
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
