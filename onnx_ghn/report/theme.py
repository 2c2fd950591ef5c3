"""The colours of primitives on a dark page: those of the palette, and lighter ones where those are hard to see."""

from __future__ import annotations

from onnx_ghn.drawing.palette import LOOKS
from onnx_ghn.graph.model import Primitive

__all__ = ["DARK", "DARK_SURFACE", "LIGHT_SURFACE"]

LIGHT_SURFACE, DARK_SURFACE = "#ffffff", "#171c24"

# Each has a contrast of at least 3 to the surface, and differs from all others. A test holds this.
DARK: dict[Primitive, str] = {primitive: look.colour for primitive, look in LOOKS.items()} | {
    Primitive.input: "#eef1f5",
    Primitive.conv: "#4f8fe8",
    Primitive.dil_conv: "#8388f7",
    Primitive.bias: "#8c99ab",
    Primitive.max_pool: "#ea4b4b",
    Primitive.glob_avg: "#cf3f7d",
    Primitive.sum: "#3fae66",
    Primitive.msa: "#a66be6",
    Primitive.pos_enc: "#b5844f",
}
