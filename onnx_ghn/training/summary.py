"""What rows of accuracies come to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from onnx_ghn.json_types import Json

__all__ = ["summary"]


def summary(rows: Sequence[Json]) -> Json:
    """How many networks there are and how many failed; mean, standard deviation and maximum of each accuracy."""
    good = [row for row in rows if "top1" in row]
    found: dict[str, Any] = {"networks": len(good), "failed": len(rows) - len(good)}
    for key in ("top1", "top5", "noisy_top1", "noisy_top5"):
        values = [row[key] for row in good if key in row]
        if values:
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            found[key] = {"mean": statistics.fmean(values), "std": spread, "max": max(values)}
    return found
