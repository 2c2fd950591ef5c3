"""Accuracy, latency, memory and convergence of a network from its graph alone, before anybody has trained or run it.

Names are resolved on first use, so that importing the package loads neither torch nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.properties.machine.calibration import calibrate_machine
    from onnx_ghn.properties.machine.prediction import MachineReport, calibrated_threads, predict_on_machine
    from onnx_ghn.properties.machine.where_calibrated import predict_where_calibrated
    from onnx_ghn.properties.prediction import PropertyReport, predict_properties
    from onnx_ghn.properties.predictor import PropertyPredictor
    from onnx_ghn.properties.storage import load_predictor, save_predictor

__all__ = [
    "MachineReport",
    "PropertyPredictor",
    "PropertyReport",
    "calibrate_machine",
    "calibrated_threads",
    "load_predictor",
    "predict_on_machine",
    "predict_properties",
    "predict_where_calibrated",
    "save_predictor",
]

_HOMES = {
    "MachineReport": "machine.prediction",
    "PropertyPredictor": "predictor",
    "PropertyReport": "prediction",
    "calibrate_machine": "machine.calibration",
    "calibrated_threads": "machine.prediction",
    "load_predictor": "storage",
    "predict_on_machine": "machine.prediction",
    "predict_properties": "prediction",
    "predict_where_calibrated": "machine.where_calibrated",
    "save_predictor": "storage",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
