"""onnx-ghn: any ONNX model in, the same model with predicted weights out.

    import onnx_ghn
    prediction = onnx_ghn.predict("model.onnx", "init.onnx")

Names are resolved on first use: importing the package loads neither torch nor any framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from onnx_ghn._version import __version__
from onnx_ghn.errors import OnnxGhnError

if TYPE_CHECKING:
    from onnx_ghn.architecture import strip
    from onnx_ghn.coverage import CoverageReport
    from onnx_ghn.exporters.pytorch import initialize
    from onnx_ghn.ghn import GHN, GHNConfig, list_ghns, load_ghn, new_ghn, save_ghn
    from onnx_ghn.graph import ComputationGraph, build_graph
    from onnx_ghn.graph.draw import draw
    from onnx_ghn.prediction import Prediction, predict
    from onnx_ghn.profiling import ProfileReport, measure_latency, profile
    from onnx_ghn.report import write_report

_HOMES = {
    "ComputationGraph": "onnx_ghn.graph",
    "CoverageReport": "onnx_ghn.coverage",
    "GHN": "onnx_ghn.ghn",
    "GHNConfig": "onnx_ghn.ghn",
    "Prediction": "onnx_ghn.prediction",
    "ProfileReport": "onnx_ghn.profiling",
    "build_graph": "onnx_ghn.graph",
    "draw": "onnx_ghn.graph.draw",
    "initialize": "onnx_ghn.exporters.pytorch",
    "list_ghns": "onnx_ghn.ghn",
    "load_ghn": "onnx_ghn.ghn",
    "measure_latency": "onnx_ghn.profiling",
    "new_ghn": "onnx_ghn.ghn",
    "predict": "onnx_ghn.prediction",
    "profile": "onnx_ghn.profiling",
    "save_ghn": "onnx_ghn.ghn",
    "strip": "onnx_ghn.architecture",
    "write_report": "onnx_ghn.report",
}

__all__ = [
    "GHN",
    "ComputationGraph",
    "CoverageReport",
    "GHNConfig",
    "OnnxGhnError",
    "Prediction",
    "ProfileReport",
    "__version__",
    "build_graph",
    "draw",
    "initialize",
    "list_ghns",
    "load_ghn",
    "measure_latency",
    "new_ghn",
    "predict",
    "profile",
    "save_ghn",
    "strip",
    "write_report",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
