"""A report as files: CSV of points and of operators, a Chrome trace."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping

from onnx_ghn.profiling.report import (
    Binding,
    CudaGraph,
    DeviceMemory,
    Energy,
    Generation,
    Latency,
    Memory,
    Operator,
    PointResult,
    ProfileReport,
)
from onnx_ghn.profiling.settings import Point

__all__ = ["operators_csv", "points_csv", "trace_json"]


def points_csv(report: ProfileReport) -> str:
    """A table with a row for each point of the model, then of the other model."""
    return _csv({"model": model, **_point_row(point)} for model, points in report.sides for point in points)


def operators_csv(report: ProfileReport) -> str:
    """A table with a row for each operator of each point."""
    rows = []
    for model, points in report.sides:
        for point in points:
            where = {"model": model, **_place(point)}
            for operator in point.operators.operators if point.operators is not None else ():
                row = dataclasses.asdict(operator)
                row["operator_provider"] = row.pop("provider")
                row["covers"] = " ".join(operator.covers)
                row["output_shape"] = "x".join(map(str, operator.output_shape or ()))
                rows.append({**where, **row})
    of_point = [field.name for field in dataclasses.fields(Point)]
    of_operator = [field.name for field in dataclasses.fields(Operator) if field.name != "provider"]
    return _csv(rows, ["model", *of_point, "operator_provider", *of_operator])


def trace_json(report: ProfileReport) -> str:
    """The recorded runs for chrome://tracing or https://ui.perfetto.dev; each point is a process there."""
    return json.dumps({"traceEvents": list(report.trace_events), "displayTimeUnit": "ms"})


def _place(point: PointResult) -> dict[str, object]:
    """The point in cells."""
    return {
        **dataclasses.asdict(point.point),
        "batch": point.batch if point.inputs else point.point.batch,
        "shapes": " ".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in point.point.shapes),
        "sizes": " ".join(f"{name}={size}" for name, size in point.point.sizes),
    }


def _point_row(point: PointResult) -> dict[str, object]:
    row = _place(point)
    row["inputs"] = " ".join(f"{info.name}:{'x'.join(map(str, info.shape))}" for info in point.inputs)
    row["session_creation_ms"] = point.session_creation_ms
    sections: dict[str, type] = {"latency": Latency, "memory": Memory, "generation": Generation}
    for section, kind in sections.items():
        row |= {key: getattr(getattr(point, section), key, None) for key in _keys(kind, "samples_ms", "context")}
    # Their keys are those of other sections, too.
    of_device: dict[str, type] = {"binding": Binding, "cuda_graph": CudaGraph, "device_memory": DeviceMemory}
    of_device |= {"energy": Energy, "device_energy": Energy}
    for section, kind in of_device.items():
        row |= {f"{section}.{key}": getattr(getattr(point, section), key, None) for key in _keys(kind)}
    row["recorded_run_ms"] = getattr(point.operators, "run_ms", None)
    whole = ["operators_ms", "coverage", "device_ms", "device_coverage"]
    whole += ["macs", "flops", "parameters", "parameter_bytes", "bytes", "estimate_ms"]
    row |= {name: getattr(point.operators, name, None) for name in whole}
    row["error"] = point.error
    return row


def _keys(kind: type, *left_out: str) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.name not in left_out]


def _csv(rows: Iterable[Mapping[str, object]], keys: list[str] | None = None) -> str:
    listed = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, keys or list(listed[0]), lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(listed)
    return text.getvalue()
