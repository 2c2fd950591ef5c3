"""The main job: which tensors take predicted weights, what these are, and how the file is filled. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.prediction.coverage import CoverageReport
    from onnx_ghn.prediction.predicting import Prediction, predict

__all__ = ["CoverageReport", "Prediction", "predict"]

_HOMES = {"CoverageReport": "coverage", "Prediction": "predicting", "predict": "predicting"}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
