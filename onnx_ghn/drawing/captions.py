"""The words of a picture: title, legend, labels."""

from __future__ import annotations

import collections
import math

from onnx_ghn.drawing.elements import MARGIN, MUTED, Mark, Text
from onnx_ghn.drawing.palette import LOOKS, Look, look_of
from onnx_ghn.graph.model import ComputationGraph, Node, Primitive, Role

__all__ = ["header_of", "label_of", "title_of"]


def header_of(graph: ComputationGraph, name: str, width: float, big: float) -> tuple[list[Mark], list[Text], float]:
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


def title_of(graph: ComputationGraph, node: Node) -> str:
    """What is told of a node where the pointer rests on it."""
    lines = [f"{node.primitive.name}: {node.name}" if node.name else node.primitive.name]
    if node.shape is not None:
        lines.append(" × ".join(map(str, node.shape)))
    elements = sum(graph.parameters[i].size for i in node.parameters)
    if elements:
        lines.append(f"{elements:,} parameters")
    return "\n".join(lines)
