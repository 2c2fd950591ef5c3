"""Deployment speed through onnxruntime: latency, throughput, memory, operators, roofline, two models side by side.

Names are resolved on first use, so that importing the package costs neither numpy nor onnxruntime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.profiling.gates import Gates
    from onnx_ghn.profiling.quick import measure_latency
    from onnx_ghn.profiling.report import ProfileReport
    from onnx_ghn.profiling.settings import Point, Settings
    from onnx_ghn.profiling.sweep import profile

__all__ = ["Gates", "Point", "ProfileReport", "Settings", "measure_latency", "profile"]

_HOMES = {"Gates": "gates", "Point": "settings", "ProfileReport": "report", "Settings": "settings"}
_HOMES |= {"measure_latency": "quick", "profile": "sweep"}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
