"""onnxruntime's levels of graph optimisation."""

from __future__ import annotations

__all__ = ["OPTIMIZATIONS"]

#: By the name that options have, that of its GraphOptimizationLevel.
OPTIMIZATIONS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
