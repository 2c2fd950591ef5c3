"""Accuracy, latency and convergence of a network from its graph alone, before anybody has trained or run it.

Names are resolved on first use, so that importing the package loads neither torch nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.properties.prediction import PropertyReport, predict_properties
    from onnx_ghn.properties.predictor import PropertyPredictor
    from onnx_ghn.properties.storage import load_predictor, save_predictor

__all__ = ["PropertyPredictor", "PropertyReport", "load_predictor", "predict_properties", "save_predictor"]

_HOMES = {
    "PropertyPredictor": "predictor",
    "PropertyReport": "prediction",
    "load_predictor": "storage",
    "predict_properties": "prediction",
    "save_predictor": "storage",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
