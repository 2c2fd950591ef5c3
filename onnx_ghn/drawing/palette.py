"""How each primitive looks: the one table of colours and shapes for pictures of graphs.

Shapes go by family, so that a picture can be read without colour: circles convolve (triangles are 1 × 1
convolutions and linear layers), squares normalise, diamonds pool, hexagons merge, stars attend.
"""

from __future__ import annotations

import dataclasses
import math

from onnx_ghn.graph.model import ComputationGraph, Node, Primitive

__all__ = ["LOOKS", "Look", "look_of", "outline", "radius"]

#: Node radii in points: from those without parameters to those with a hundred million.
_SMALLEST, _LARGEST = 5.5, 11.0


@dataclasses.dataclass(frozen=True)
class Look:
    """Colour (sRGB), shape (a key of `outline`, or "circle") and the name in the legend."""

    colour: str
    shape: str
    label: str


# Hue tells the family, lightness the member; any two differ by 20 or more in CIE Lab (held by a test).
LOOKS: dict[Primitive, Look] = {
    Primitive.input: Look("#23272f", "house", "input"),
    Primitive.conv: Look("#2f6fc1", "circle", "conv"),
    Primitive.sep_conv: Look("#27b3cf", "circle", "sep conv"),
    Primitive.dil_conv: Look("#16306e", "circle", "dil conv"),
    Primitive.bias: Look("#bcc8d9", "circle", "bias"),
    Primitive.bn: Look("#f29b2e", "square", "batch norm"),
    Primitive.ln: Look("#f7d64a", "square", "layer norm"),
    Primitive.max_pool: Look("#d93636", "diamond", "max pool"),
    Primitive.avg_pool: Look("#f4938c", "diamond", "avg pool"),
    Primitive.glob_avg: Look("#8c1440", "diamond", "global avg"),
    Primitive.sum: Look("#2e9150", "hexagon", "sum"),
    Primitive.concat: Look("#9ad37f", "hexagon", "concat"),
    Primitive.msa: Look("#7b3fb8", "star", "attention"),
    Primitive.cse: Look("#e06bd0", "star", "squeeze-excite"),
    Primitive.pos_enc: Look("#8a5f36", "house", "position / embedding"),
}

_CONVOLUTIONS = frozenset({Primitive.conv, Primitive.sep_conv, Primitive.dil_conv})


def look_of(node: Node) -> Look:
    """The look of a node: 1 × 1 convolutions and linear layers are triangles."""
    look = LOOKS[node.primitive]
    if node.primitive in _CONVOLUTIONS and node.shape is not None and math.prod(node.shape[2:]) == 1:
        linear = ", linear" if node.primitive is Primitive.conv else ""
        return dataclasses.replace(look, shape="triangle", label=f"{look.label} 1×1{linear}")
    return look


def radius(graph: ComputationGraph, node: Node) -> float:
    """Grows with the logarithm of the parameter count."""
    elements = sum(graph.parameters[i].size for i in node.parameters)
    if not elements and node.shape is not None and node.primitive in _CONVOLUTIONS:
        elements = math.prod(node.shape)
    if not elements:
        return 7.0 if node.primitive is not Primitive.bias else _SMALLEST
    return min(_LARGEST, max(_SMALLEST, 2.6 + 1.25 * math.log10(elements)))


def outline(shape: str, x: float, y: float, r: float) -> list[tuple[float, float]]:
    """The corners of a shape of about the area of a circle of that radius."""
    match shape:
        case "square":
            turns, scale = [0.125 + i / 4 for i in range(4)], [1.22] * 4
        case "triangle":
            turns, scale = [-0.25, 1 / 12, 5 / 12], [1.4] * 3
            y += 0.18 * r  # its centre of mass lies low
        case "diamond":
            turns, scale = [i / 4 for i in range(4)], [1.32] * 4
        case "hexagon":
            turns, scale = [i / 6 for i in range(6)], [1.14] * 6
        case "star":
            turns, scale = [-0.25 + i / 10 for i in range(10)], [1.55, 0.78] * 5
        case "house":  # a tag that points along the flow
            return [(x + r * a, y + r * b) for a, b in ((-1, -0.95), (0.4, -0.95), (1.25, 0), (0.4, 0.95), (-1, 0.95))]
        case _:
            raise ValueError(f"no shape {shape!r}")
    return [
        (x + r * s * math.cos(2 * math.pi * t), y + r * s * math.sin(2 * math.pi * t))
        for t, s in zip(turns, scale, strict=True)
    ]
