"""Tables of time and memory, from what benchmarks/whole_process.py and benchmarks/predict_speed.py wrote."""

from __future__ import annotations

import json
from typing import Any

from journeys import Row as JourneyRow
from journeys import table as journeys_table
from whole_process import Row, table

from figures.sources import RESULTS

__all__ = ["in_process", "journeys", "processes"]


def processes() -> str:
    """Whole processes of the command."""
    rows = _read("whole_process.json")["rows"]
    return table([Row(**row) for row in rows])


def journeys() -> str:
    """From nothing to the first trained epoch."""
    return journeys_table([JourneyRow(**row) for row in _read("journeys.json")["rows"]])


def in_process() -> str:
    """A prediction in one process, beside reading and writing the file."""
    lines = [
        "| network | graph and GHN | whole `predict`, file to file | `onnx.load` and `onnx.save` of the same file |",
        "|---|---:|---:|---:|",
    ]
    for row in _read("predict_speed.json")["rows"]:
        ours, theirs = f"{row['predict_s']:.2f} s", f"{row['copy_s']:.2f} s"
        ours, theirs = (
            f"**{text}**" if float(text[:-2]) == min(float(ours[:-2]), float(theirs[:-2])) else text
            for text in (ours, theirs)
        )
        lines.append(f"| {row['network']} ({row['megabytes']:.0f} MB) | {row['ghn_s']:.3f} s | {ours} | {theirs} |")
    return "\n".join(lines)


def _read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))
