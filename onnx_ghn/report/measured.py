"""What the page shows of a profile: the sums of operators by kind, and the slowest operators."""

from __future__ import annotations

import collections
from typing import Any

from onnx_ghn.errors import printable
from onnx_ghn.json_types import JsonView

__all__ = ["LATENCY", "profile_data"]

#: The figures of a latency that the page shows.
LATENCY = ["n_runs", "mean_ms", "std_ms", "min_ms", "max_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99_9_ms"]
LATENCY += ["runs_per_s", "items_per_s", "first_run_ms"]
_SLOWEST = 15
_SAMPLES = 600  # latencies that are drawn, evenly spaced
_SYSTEM = ("processor", "cores", "onnxruntime")


def profile_data(report: JsonView) -> dict[str, object]:
    """The points of a sweep, each with its latency, memory and operators, or its error."""
    system = report["system"]
    return {
        "size_bytes": report["size_bytes"],
        "parameters": report["parameters"],
        "system": {key: system[key] for key in _SYSTEM if key in system},
        "points": [_point(point) for point in report["points"]],
    }


def _point(point: JsonView) -> dict[str, object]:
    if point["error"] is not None:
        return {"label": _label(point), "error": printable(str(point["error"]))}
    latency, memory, operators = point["latency"], point["memory"], point["operators"]
    row: dict[str, object] = {
        "label": _label(point),
        "error": None,
        "inputs": [f"{printable(entry['name'])}: {' × '.join(map(str, entry['shape']))}" for entry in point["inputs"]],
        "notes": [printable(str(note)) for note in point["notes"]],
        "session_creation_ms": point["session_creation_ms"],
        "peak_bytes": None if memory is None else memory["peak_bytes"],
        "latency": None,
        "operators": None,
    }
    if latency is not None:
        samples = latency["samples_ms"]
        step = max(1, -(-len(samples) // _SAMPLES))
        shown = {key: latency[key] for key in LATENCY}
        row["latency"] = {**shown, "samples_ms": [round(value, 4) for value in samples[::step]]}
    if operators is not None:
        row["operators"] = _operators(operators)
    return row


def _label(point: JsonView) -> str:
    parts = [str(point["provider"]).removesuffix("ExecutionProvider"), f"batch {point['batch']}"]
    parts.append(f"{point['threads']} thread" + ("s" if point["threads"] > 1 else ""))
    if point["streams"] > 1:
        parts.append(f"{point['streams']} streams")
    return ", ".join(parts)


def _operators(profile: JsonView) -> dict[str, object]:
    timed = [entry for entry in profile["operators"] if entry["mean_ms"] is not None]
    kinds: dict[str, list[Any]] = collections.defaultdict(lambda: [0, 0.0, 0])
    for entry in timed:
        total = kinds[_kind(entry)]
        total[0] += 1
        total[1] += entry["mean_ms"]
        total[2] += entry["macs"] or 0
    slowest = sorted(timed, key=lambda entry: -entry["mean_ms"])[:_SLOWEST]
    return {
        "operators_ms": profile["operators_ms"],
        "run_ms": profile["run_ms"],
        "macs": profile["macs"],
        "kinds": [
            {"kind": kind, "count": count, "mean_ms": round(mean_ms, 5), "macs": macs}
            for kind, (count, mean_ms, macs) in sorted(kinds.items(), key=lambda item: -item[1][1])
        ],
        "slowest": [
            {
                "name": printable(entry["name"]),
                "kind": _kind(entry),
                "shape": " × ".join(map(str, entry["output_shape"] or ())),
                "mean_ms": entry["mean_ms"],
                "std_ms": entry["std_ms"],
                "macs": entry["macs"],
            }
            for entry in slowest
        ],
    }


def _kind(operator: JsonView) -> str:
    return printable(operator["fused"] or operator["op_type"]).replace("+", " + ")
