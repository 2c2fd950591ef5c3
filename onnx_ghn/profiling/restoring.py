"""Reports back from the JSON of a worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_ghn.profiling.report import (
    Comparison,
    Latency,
    Machine,
    Memory,
    Operator,
    OperatorProfile,
    PointResult,
    Ratio,
    TensorInfo,
)
from onnx_ghn.profiling.settings import Point

__all__ = ["comparison_from", "point_from", "ratio_from"]

Json = Mapping[str, Any]


def point_from(found: Json) -> PointResult:
    """A PointResult."""
    latency, memory, machine = found["latency"], found["memory"], found["machine"]
    return PointResult(
        point=Point(**found["point"]),
        error=found["error"],
        inputs=tuple(TensorInfo(**{**entry, "shape": tuple(entry["shape"])}) for entry in found["inputs"]),
        notes=tuple(found["notes"]),
        session_creation_ms=found["session_creation_ms"],
        latency=None if latency is None else Latency(**{**latency, "samples_ms": tuple(latency["samples_ms"])}),
        memory=None if memory is None else Memory(**memory),
        operators=None if found["operators"] is None else _operators_from(found["operators"]),
        machine=None if machine is None else Machine(**machine),
    )


def ratio_from(found: Json) -> Ratio:
    """A Ratio."""
    return Ratio(**{**found, "point": Point(**found["point"])})


def comparison_from(found: Json) -> Comparison:
    """A Comparison."""
    return Comparison(**{**found, "rows": tuple(found["rows"])})


def _operators_from(found: Json) -> OperatorProfile:
    return OperatorProfile(**{**found, "operators": tuple(_operator_from(entry) for entry in found["operators"])})


def _operator_from(entry: Json) -> Operator:
    shape = entry["output_shape"]
    return Operator(
        **{**entry, "covers": tuple(entry["covers"]), "output_shape": None if shape is None else tuple(shape)}
    )
