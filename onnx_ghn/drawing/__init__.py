"""Pictures of a computational graph: SVG, PNG and DOT. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.drawing.pictures import draw

__all__ = ["draw"]

__getattr__, __dir__ = lazy_names(__name__, {"draw": "pictures"}, __all__)
