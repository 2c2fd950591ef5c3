"""How well latency and memory are predicted for a machine, from what benchmarks/machine_predictor.py wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from machine_models import KINDS

from figures.sources import RESULTS

__all__ = ["agreement", "by_kind", "machine_agreement", "machine_by_kind"]

Row = Mapping[str, Any]
Floats = npt.NDArray[np.float64]


def machine_agreement() -> str:
    """Beside other ways to predict a latency."""
    return agreement(_rows())


def machine_by_kind() -> str:
    """By kind of network."""
    return by_kind(_rows())


def agreement(rows: Sequence[Row]) -> str:
    """A line for each number of threads and way to predict."""
    lines = [
        "| threads | predicted by | mean error (MAPE) | within 10 % | Kendall's τ | 90 % intervals hold |",
        "|---|---|---:|---:|---:|---:|",
    ]
    ways: Mapping[str, Callable[[Row], float | None]] = {
        "operations, at one rate": lambda row: row["flops"],
        "roofline (uncalibrated)": lambda row: row["roofline_ms"],
        "predictor of 32-pixel networks (bundled)": lambda row: row["bundled_ms"],
        "calibrated": lambda row: row["predicted_value_ms"],
    }
    for threads in sorted({row["threads"] for row in rows}):
        own = [row for row in rows if row["threads"] == threads]
        truth = np.array([row["p50_ms"] for row in own])
        for name, way in ways.items():
            if any(way(row) is None for row in own):  # the bundled predictor knows one thread
                continue
            told = np.array([way(row) for row in own], np.float64)
            if name.startswith("operations"):  # the rate that fits best
                told = told * float(np.exp(np.median(np.log(truth / told))))
            held = "–"
            if name == "calibrated":
                inside = [row["predicted_low_ms"] <= row["p50_ms"] <= row["predicted_high_ms"] for row in own]
                held = f"{np.mean(inside):.0%}"
            off = np.abs(told / truth - 1)
            figures = f"{off.mean():.1%} | {np.mean(off <= 0.1):.0%} | {_tau(told, truth):.3f} | {held}"
            shown = " | ".join(f"**{part}**" for part in figures.split(" | ")) if name == "calibrated" else figures
            lines.append(f"| {threads} | {name} | {shown} |")
    return "\n".join(lines).replace("%", " %").replace("  %", " %")


def by_kind(rows: Sequence[Row]) -> str:
    """A line for each kind of network, with its memory."""
    lines = [
        "| threads | networks | | latency, mean error | within 10 % | peak memory, mean error | 90 % intervals hold |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for threads in sorted({row["threads"] for row in rows}):
        for kind in (*KINDS, "all"):
            own = [row for row in rows if row["threads"] == threads and kind in (row["kind"], "all")]
            if not own:
                continue
            off = np.array([abs(row["predicted_value_ms"] / row["p50_ms"] - 1) for row in own])
            memory = np.array([abs(row["predicted_value_bytes"] / row["peak_bytes"] - 1) for row in own])
            held = [row["predicted_low_bytes"] <= row["peak_bytes"] <= row["predicted_high_bytes"] for row in own]
            lines.append(
                f"| {threads} | {kind} | {len(own)} | {off.mean():.1%} | {np.mean(off <= 0.1):.0%} "
                f"| {memory.mean():.1%} | {np.mean(held):.0%} |"
            )
    return "\n".join(lines).replace("%", " %").replace("  %", " %")


def _tau(a: Floats, b: Floats) -> float:
    """Kendall's, of sequences without ties."""
    signs = np.sign((a[:, None] - a) * (b[:, None] - b))
    return float(signs.sum() / (len(a) * (len(a) - 1)))


def _rows() -> list[dict[str, Any]]:
    text = (RESULTS / "machine_predictor.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
