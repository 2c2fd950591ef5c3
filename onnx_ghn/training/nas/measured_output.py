"""What measured latencies leave: tables as CSV, a picture of the front with its intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onnx_ghn.json_types import Json
from onnx_ghn.onnx_io import write_file
from onnx_ghn.training.nas.deployed import Measured
from onnx_ghn.training.nas.output import as_csv, chart, label_of

__all__ = ["draw_measured", "write_measured"]

_KINDS = (  # of rows: colour, marker, label
    ("slow", "#9aa5b1", "o", "not surely fast enough"),
    ("random", "#b8860b", "s", "random within the limits"),
    ("best", "#1d3557", "D", "the best that are fast enough"),
)


def write_measured(folder: Path, found: Measured, by: str, limit_ms: float, *, picture: bool) -> None:
    """Write measured.csv and measured_front.csv, and measured_front.svg where a picture is wanted.

    Args:
        by: the predicted property.
        limit_ms: that the best keep to.

    Raises:
        ModelWriteError: a file cannot be written.
    """
    for name, rows in (("measured.csv", found.rows), ("measured_front.csv", found.front)):
        write_file(folder / name, as_csv(rows).encode(), force=True, what="a table")
    if picture:
        draw_measured(found.rows, found.front, by, limit_ms, folder / "measured_front.svg")


def draw_measured(rows: Sequence[Json], front: Sequence[Json], by: str, limit_ms: float, path: Path) -> None:
    """The predicted property (90 % intervals) against the measured latency (95 %); SVG or PNG by the name."""
    with chart(path) as axes:
        for kind, colour, marker, label in _KINDS:
            mine = [row for row in rows if row["chosen"] == kind]
            if not mine:
                continue
            x, y = [row["latency_ms"] for row in mine], [row["predicted"] for row in mine]
            axes.errorbar(
                x, y, xerr=_arms(mine, "latency_ms", "low_ms", "high_ms"),
                yerr=_arms(mine, "predicted", "predicted_low", "predicted_high"), fmt=marker, ms=5, color=colour,
                ecolor=colour, elinewidth=0.7, alpha=0.8, label=f"{label} ({len(mine)})",
            )  # fmt: skip
        axes.plot(
            [row["latency_ms"] for row in front], [row["predicted"] for row in front], color="#d1495b", lw=1.4,
            drawstyle="steps-post", zorder=3, label=f"Pareto front ({len(front)})",
        )  # fmt: skip
        axes.axvline(limit_ms, color="#64748b", lw=1.0, ls="--", label=f"the limit, {limit_ms:g} ms")
        axes.set_xlabel("measured latency of one image, ms (95 % intervals)")
        axes.set_ylabel(f"{label_of(by)}, 90 % intervals")
        axes.set_title(f"{len(rows)} architectures on this machine", loc="left", fontsize=11)
        axes.legend(loc="lower right", framealpha=0.95, edgecolor="none", fontsize=8)


def _arms(rows: Sequence[Json], value: str, low: str, high: str) -> list[list[float]]:
    """(2, n) lengths of the intervals' arms; a value that lies outside has none on that side."""
    below = [max(row[value] - row[low], 0.0) for row in rows]
    return [below, [max(row[high] - row[value], 0.0) for row in rows]]
