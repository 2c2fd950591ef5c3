"""draw: a graph coloured by primitive, as SVG, PNG or DOT. SVG and DOT need nothing beside numpy."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from onnx_ghn.drawing.elements import Curve, Mark, Scene
from onnx_ghn.drawing.palette import look_of, outline
from onnx_ghn.drawing.scene import compose
from onnx_ghn.drawing.svg import printable, svg_picture, svg_text, xml
from onnx_ghn.errors import OptionError
from onnx_ghn.graph.model import ComputationGraph
from onnx_ghn.installing import install_command
from onnx_ghn.onnx_io.transaction import check_target, write_file

__all__ = ["draw"]

_FORMATS = (".svg", ".png", ".dot", ".gv")
_MAX_PIXELS = 6000  # along the longer side of a PNG


def draw(
    graph: ComputationGraph, path: str | os.PathLike[str], *, force: bool = False, labels: bool | None = None
) -> Path:
    """Draw a graph; the suffix says how: .svg, .png (needs matplotlib), .dot or .gv (for graphviz).

    Args:
        graph: from any source.
        path: the file to write; it appears whole or not at all.
        force: replace an existing file.
        labels: kernel and channels under each node; None: where there is room for them.

    Returns:
        the path.

    Raises:
        OptionError: another suffix, or a PNG without matplotlib.
        ModelWriteError: the file exists, or cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in _FORMATS:
        raise OptionError(f"{target}: no picture format {suffix!r}; name a file in {', '.join(_FORMATS)}")
    check_target(target, force, "a picture")
    if suffix in (".dot", ".gv"):
        content = _dot(graph, target.stem).encode()
    else:
        scene = compose(graph, target.stem, labels)
        content = _svg(scene).encode() if suffix == ".svg" else _png(scene, target)
    return write_file(target, content, force=force, what="a picture")


# -- SVG ---------------------------------------------------------------------------------------------------


def _svg(scene: Scene) -> str:
    colours = sorted({mark.look.colour for mark in scene.marks} | {curve.colour for curve in scene.curves})
    names = {colour: f"c{i}" for i, colour in enumerate(colours)}
    style = [
        "path{fill:none}.m{stroke:#fff;stroke-width:1.2}.m:hover{stroke:#000}",
        *(f".{name}{{fill:{c}}}path.{name}{{fill:none;stroke:{c}}}" for c, name in names.items()),
    ]
    parts = [
        *(_svg_curve(curve, names[curve.colour]) for curve in scene.curves),
        *(_svg_mark(mark, names[mark.look.colour]) for mark in scene.marks),
        *map(svg_text, scene.texts),
    ]
    return svg_picture(scene.width, scene.height, scene.name, "".join(style), parts)


def _svg_curve(curve: Curve, colour: str) -> str:
    (xa, ya), (xb, yb), (xc, yc), (xd, yd) = curve.points
    d = f"M{xa:.1f} {ya:.1f}C{xb:.1f} {yb:.1f} {xc:.1f} {yc:.1f} {xd:.1f} {yd:.1f}"
    opacity = f' opacity="{curve.alpha:.2f}"' if curve.alpha < 1 else ""
    line = f'<path class="{colour}" stroke-width="{curve.width:.1f}"{opacity} d="{d}"/>'
    if curve.arrow is not None:
        line += f'<polygon class="{colour}" points="{_points(curve.arrow)}"/>'
    return line


def _svg_mark(mark: Mark, colour: str) -> str:
    title = f"<title>{xml(mark.title)}</title>" if mark.title else ""
    if mark.look.shape == "circle":
        place = f'cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="{mark.r:.1f}"'
        return f'<circle class="m {colour}" {place}>{title}</circle>'
    corners = _points(outline(mark.look.shape, mark.x, mark.y, mark.r))
    return f'<polygon class="m {colour}" stroke-linejoin="round" points="{corners}">{title}</polygon>'


def _points(corners: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


# -- PNG ---------------------------------------------------------------------------------------------------


def _png(scene: Scene, target: Path) -> bytes:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.collections import PathCollection, PolyCollection
        from matplotlib.figure import Figure
        from matplotlib.path import Path as Outline
    except ImportError:
        raise OptionError(
            f"{target}: PNG needs matplotlib; run {install_command('plot')}, or write an .svg file"
        ) from None
    # One unit of the scene is a CSS pixel, 1/96 inch; matplotlib measures lines and fonts in points.
    point = 72 / 96
    figure = Figure(figsize=(scene.width / 96, scene.height / 96), facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, scene.width), ylim=(scene.height, 0), aspect="equal")
    axes.axis("off")
    codes = [Outline.MOVETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4]
    axes.add_collection(
        PathCollection(
            [Outline(curve.points, codes) for curve in scene.curves],
            facecolors="none",
            edgecolors=[(curve.colour, curve.alpha) for curve in scene.curves],
            linewidths=[curve.width * point for curve in scene.curves],
            zorder=0,
        )
    )
    heads = [curve for curve in scene.curves if curve.arrow is not None]
    tips = [curve.arrow for curve in heads if curve.arrow is not None]
    axes.add_collection(PolyCollection(tips, facecolors=[curve.colour for curve in heads], zorder=1))
    axes.add_collection(
        PathCollection(
            [
                Outline.circle((mark.x, mark.y), mark.r)
                if mark.look.shape == "circle"
                else Outline([*(corners := outline(mark.look.shape, mark.x, mark.y, mark.r)), corners[0]], closed=True)
                for mark in scene.marks
            ],
            facecolors=[mark.look.colour for mark in scene.marks],
            edgecolors="white",
            linewidths=1.2 * point,
            zorder=2,
        )
    )
    for text in scene.texts:
        axes.text(
            text.x,
            text.y,
            printable(text.text),
            fontsize=text.size * point,
            color=text.colour,
            ha="left" if text.anchor == "start" else "center",
            va="baseline",
            fontweight="bold" if text.bold else "normal",
            parse_math=False,
            zorder=3,
        )
    buffer = io.BytesIO()
    dpi = min(192.0, 96 * _MAX_PIXELS / max(scene.width, scene.height))
    canvas.print_figure(buffer, dpi=dpi, format="png", metadata={"Software": None})
    return buffer.getvalue()


# -- DOT ---------------------------------------------------------------------------------------------------


def _dot(graph: ComputationGraph, stem: str) -> str:
    """Text for graphviz; nothing of it is needed to write it."""
    lines = [
        f"digraph {_quoted(graph.name or stem)} {{",
        "  rankdir=TB; bgcolor=white; ranksep=0.25; nodesep=0.2;",
        '  node [style=filled, color=white, fontname="Helvetica", fontsize=9, margin="0.05,0.03"];',
        '  edge [color="#98a3b0", arrowsize=0.5];',
    ]
    for i, node in enumerate(graph.nodes):
        look = look_of(node)
        size = "x".join(map(str, node.shape)) if node.shape is not None else ""
        label = f"{node.primitive.name}\n{size}" if size else node.primitive.name
        shape = "ellipse" if look.shape == "circle" else look.shape  # graphviz knows the others by these names
        dark = sum(int(look.colour[k : k + 2], 16) for k in (1, 3, 5)) < 380
        lines.append(
            f"  n{i} [label={_quoted(label)}, tooltip={_quoted(node.name)}, shape={shape}, "
            f'fillcolor="{look.colour}", fontcolor="{"white" if dark else "black"}"];'
        )
    lines += [f"  n{a} -> n{b};" for a, b in graph.edges.tolist()]
    return "\n".join([*lines, "}\n"])


def _quoted(text: str) -> str:
    clean = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + clean.replace("\r", "").replace("\n", "\\n") + '"'
