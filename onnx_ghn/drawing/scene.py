"""The picture of a graph as curves, marks and texts."""

from __future__ import annotations

from onnx_ghn.drawing.captions import header_of, label_of, title_of
from onnx_ghn.drawing.edges import curves
from onnx_ghn.drawing.elements import MARGIN, MUTED, Mark, Scene, Text
from onnx_ghn.drawing.palette import look_of, radius
from onnx_ghn.drawing.placement import levels_of, place_nodes
from onnx_ghn.graph.model import ComputationGraph

__all__ = ["compose"]

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
    header_marks, header_texts, top = header_of(graph, name, width, big) if header else ([], [], MARGIN)
    left = (width - fold.width) / 2
    at = [(left + x, top + y) for x, y in fold.at]
    marks = [
        Mark(x, y, r, look_of(node), title_of(graph, node))
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
