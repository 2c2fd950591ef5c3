"""What a picture of a graph is made of, the same for every file format."""

from __future__ import annotations

import dataclasses

from onnx_ghn.drawing.palette import Look

__all__ = ["INK", "MARGIN", "MUTED", "Curve", "Mark", "Point", "Scene", "Text"]

Point = tuple[float, float]

MARGIN = 36.0  # around everything
INK, MUTED = "#1c2128", "#6a7482"  # of words, and of those that matter less


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
    colour: str = INK
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
