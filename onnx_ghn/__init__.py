"""onnx-ghn: any ONNX model in, the same model with predicted weights out.

    import onnx_ghn
    prediction = onnx_ghn.predict("model.onnx", "init.onnx")

Names are resolved on first use: importing the package loads neither torch nor any framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn._version import __version__
from onnx_ghn.errors import OnnxGhnError
from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.drawing.pictures import draw
    from onnx_ghn.exporters.pytorch import initialize
    from onnx_ghn.finetuning.start_race import choose_start
    from onnx_ghn.ghn import GHN, GHNConfig, list_ghns, load_ghn, new_ghn, save_ghn
    from onnx_ghn.graph import ComputationGraph, build_graph
    from onnx_ghn.prediction.coverage import CoverageReport
    from onnx_ghn.prediction.options import PredictOptions
    from onnx_ghn.prediction.predicting import predict
    from onnx_ghn.prediction.result import Prediction
    from onnx_ghn.profiling import ProfileReport, measure_latency, profile
    from onnx_ghn.report import write_report
    from onnx_ghn.stripping import strip

_HOMES = {
    "ComputationGraph": "graph",
    "CoverageReport": "prediction.coverage",
    "GHN": "ghn",
    "GHNConfig": "ghn",
    "PredictOptions": "prediction.options",
    "Prediction": "prediction.result",
    "ProfileReport": "profiling",
    "build_graph": "graph",
    "choose_start": "finetuning.start_race",
    "draw": "drawing.pictures",
    "initialize": "exporters.pytorch",
    "list_ghns": "ghn",
    "load_ghn": "ghn",
    "measure_latency": "profiling",
    "new_ghn": "ghn",
    "predict": "prediction.predicting",
    "profile": "profiling",
    "save_ghn": "ghn",
    "strip": "stripping",
    "write_report": "report",
}

__all__ = [
    "GHN",
    "ComputationGraph",
    "CoverageReport",
    "GHNConfig",
    "OnnxGhnError",
    "PredictOptions",
    "Prediction",
    "ProfileReport",
    "__version__",
    "build_graph",
    "choose_start",
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

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
