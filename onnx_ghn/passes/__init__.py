"""Rewrites of a model, each a pass that says what it changed. No torch.

Names are resolved on first use, so that importing the package costs neither onnx nor onnx_ir.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.passes.folded import find_folded
    from onnx_ghn.passes.opening import OpenedModel, open_model
    from onnx_ghn.passes.results import Rewrite
    from onnx_ghn.passes.stripping import StripWeights
    from onnx_ghn.passes.unfolding import UnfoldBatchNorms
    from onnx_ghn.passes.untying import UntieMergedTensors

__all__ = [
    "OpenedModel",
    "Rewrite",
    "StripWeights",
    "UnfoldBatchNorms",
    "UntieMergedTensors",
    "find_folded",
    "open_model",
]

_HOMES = {
    "OpenedModel": "opening",
    "Rewrite": "results",
    "StripWeights": "stripping",
    "UnfoldBatchNorms": "unfolding",
    "UntieMergedTensors": "untying",
    "find_folded": "folded",
    "open_model": "opening",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
