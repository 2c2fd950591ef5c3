"""The picture of a graph as curves, marks and texts: nodes and edges, title, legend, labels."""

from __future__ import annotations

import collections
import math

from onnx_ghn.drawing.edges import curves
from onnx_ghn.drawing.elements import MARGIN, MUTED, Mark, Scene, Text
from onnx_ghn.drawing.palette import LOOKS, Look, look_of, radius
from onnx_ghn.drawing.placement import levels_of, place_nodes
from onnx_ghn.graph.model import ComputationGraph, Node, Primitive
from onnx_ghn.graph.parameter import Role

__all__ = ["compose", "label_of"]

_LABELS_UP_TO = 100  # nodes
#: What exporters call a graph when nobody named it.
_NAMELESS = frozenset({"", "main_graph", "torch_jit", "torch-jit-export", "graph", "g"})


def compose(graph: ComputationGraph, fallback_name: str, labels: bool | None = None, *, header: bool = True) -> Scene:
    """Lay a graph out. `labels`: kernel and channels under each node (None: in graphs of up to 100 nodes).

    Without `header` the scene has neither title nor legend, and its marks are the nodes, in their order.
    """
    labelled = len(graph) <= _LABELS_UP_TO if labels is None else labels
    level = levels_of(graph)
    fold = place_nodes(graph, level, labelled=labelled)
    sizes = [radius(graph, node) for node in graph.nodes]
    name = fallback_name if graph.name in _NAMELESS else graph.name
    width = max(fold.width, 430.0 if header else 0.0) + 2 * MARGIN
    big = min(2.2, max(1.0, width / 1100))
    header_marks, header_texts, top = _header(graph, name, width, big) if header else ([], [], MARGIN)
    left = (width - fold.width) / 2
    at = [(left + x, top + y) for x, y in fold.at]
    marks = [
        Mark(x, y, r, look_of(node), _title(graph, node))
        for node, (x, y), r in zip(graph.nodes, at, sizes, strict=True)
    ]
    texts = list(header_texts)
    if labelled:
        texts += [
            Text(x, y + r + 11, label, 8.0, MUTED, "middle")
            for node, (x, y), r in zip(graph.nodes, at, sizes, strict=True)
            if (label := label_of(node))
        ]
    drawn = list(curves(graph, level, at, sizes, fold))
    return Scene(width, top + fold.height + MARGIN, name, drawn, [*header_marks, *marks], texts)


def _header(graph: ComputationGraph, name: str, width: float, big: float) -> tuple[list[Mark], list[Text], float]:
    """Title, numbers, and the legend of what the picture holds."""
    texts = [Text(MARGIN, MARGIN + 14 * big, name, 20 * big, bold=True)]
    texts.append(Text(MARGIN, MARGIN + 35 * big, _numbers(graph), 11.5 * big, MUTED))
    counts: collections.Counter[Look] = collections.Counter(look_of(node) for node in graph.nodes)
    families = [look.colour for look in LOOKS.values()]
    marks: list[Mark] = []
    x, y = MARGIN + 7 * big, MARGIN + 62 * big
    for look in sorted(counts, key=lambda look: (families.index(look.colour), look.shape)):
        entry = f"{look.label}\u2002{counts[look]:,}"
        length = (13 + _ems(entry) * 11.5) * big
        if x + length > width - MARGIN and marks:
            x, y = MARGIN + 7 * big, y + 22 * big
        marks.append(Mark(x, y, 6.2 * big, look))
        texts.append(Text(x + 13 * big, y + 4 * big, entry, 11.5 * big))
        x += length + 22 * big
    return marks, texts, y + 34 * big


def _ems(text: str) -> float:
    """About how wide a text is, in units of its size: fonts differ, and the picture knows none."""
    return sum(0.36 if c in "ijltfr,.- " else 0.95 if c in "mwMW" else 0.62 for c in text)


def _numbers(graph: ComputationGraph) -> str:
    elements = sum(p.n_trained for p in graph.parameters if p.role is not Role.statistic)
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
    """What is told of a node where the pointer rests on it."""
    lines = [f"{node.primitive.name}: {node.name}" if node.name else node.primitive.name]
    if node.shape is not None:
        lines.append(" × ".join(map(str, node.shape)))
    elements = sum(graph.parameters[i].size for i in node.parameters)
    if elements:
        lines.append(f"{elements:,} parameters")
    return "\n".join(lines)
