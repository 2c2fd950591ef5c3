"""Deployment speed through onnxruntime: latency, throughput, memory, operators, roofline, two models side by side.

Names are resolved on first use, so that importing the package costs neither numpy nor onnxruntime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx_ghn.profiling.quick import measure_latency
    from onnx_ghn.profiling.report import ProfileReport
    from onnx_ghn.profiling.sweep import profile

__all__ = ["ProfileReport", "measure_latency", "profile"]

# No submodule may bear one of these names: importing it would put the module in the place of the function.
_HOMES = {"ProfileReport": "report", "measure_latency": "quick", "profile": "sweep"}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
