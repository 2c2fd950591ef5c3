"""The main job: which tensors take predicted weights, what these are, and how the file is filled. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.prediction.coverage import CoverageReport
    from onnx_ghn.prediction.options import PredictKeywords, PredictOptions
    from onnx_ghn.prediction.plan import Decision
    from onnx_ghn.prediction.predicting import predict, resolve_ghn
    from onnx_ghn.prediction.result import Prediction

__all__ = [
    "CoverageReport",
    "Decision",
    "PredictKeywords",
    "PredictOptions",
    "Prediction",
    "predict",
    "resolve_ghn",
]

_HOMES = {
    "CoverageReport": "coverage",
    "Decision": "plan",
    "PredictKeywords": "options",
    "PredictOptions": "options",
    "Prediction": "result",
    "predict": "predicting",
    "resolve_ghn": "predicting",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
