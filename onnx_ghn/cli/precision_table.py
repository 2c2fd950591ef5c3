"""The table of a model in several precisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onnx_ghn.cli.profile_tables import ms, si
from onnx_ghn.cli.tables import new_table

if TYPE_CHECKING:
    from rich.table import Table

    from onnx_ghn.training.precision_profile import PrecisionRow

__all__ = ["precision_table"]


def precision_table(rows: Sequence[PrecisionRow]) -> Table:
    """Speed, size, memory and accuracy, a row for each precision and point."""
    names = ["p50", "p95", "ratio", "95 % interval", "size", "memory"]
    judged = any(row.top1 is not None for row in rows)
    names += ["top-1 %", "top-5 %"] if judged else []
    table = new_table(("precision", "left"), ("point", "left"), *((name, "right") for name in names))
    for row in rows:
        if row.point is None or row.point.latency is None:
            table.add_row(row.precision, "", "failed", style="yellow")
            continue
        latency, memory, ratio = row.point.latency, row.point.memory, row.ratio
        cells = [ms(latency.p50_ms), ms(latency.p95_ms)]
        if ratio is None or ratio.ratio is None:
            cells += ["" if ratio is None else "failed", ""]
        else:
            cells += [f"{ratio.ratio:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}"]
        cells += [si(row.size_bytes, "B"), "" if memory is None else f"{memory.peak_bytes / 2**20:,.0f} MiB"]
        if judged:
            cells += [f"{row.top1:.2f}", f"{row.top5:.2f}"]
        table.add_row(row.precision, row.point.point.label, *cells)
    n_images = next((row.n_images for row in rows if row.n_images is not None), None)
    accuracy = "" if n_images is None else f"; accuracy on {n_images:,} images"
    table.caption = f"times in ms; ratio of the medians of runs in turn with the first{accuracy}"
    table.caption_justify = "left"
    return table
