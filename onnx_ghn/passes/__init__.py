"""Rewrites of a model, each saying what it changed. No torch.

Names are resolved on first use, so that importing the package costs neither onnx nor onnx_ir.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.passes.stripping import strip_model
    from onnx_ghn.passes.unfolding import find_folded, unfold
    from onnx_ghn.passes.untying import untie

__all__ = ["find_folded", "strip_model", "unfold", "untie"]

_HOMES = {"find_folded": "unfolding", "strip_model": "stripping", "unfold": "unfolding", "untie": "untying"}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
