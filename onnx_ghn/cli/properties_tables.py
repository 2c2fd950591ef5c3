"""Tables for people."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from onnx_ghn.cli.tables import new_table
from onnx_ghn.json_types import JsonView
from onnx_ghn.properties.predictor import PROPERTIES

if TYPE_CHECKING:
    from onnx_ghn.properties.prediction import PropertyReport

__all__ = ["figure", "measured_table", "properties_table", "rows_table"]


def figure(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.{0 if abs(value) >= 99.5 else 1 if abs(value) >= 9.95 else 2}f}"


def properties_table(found: PropertyReport) -> Table:
    """Each property, its interval, and what it means."""
    table = new_table(("", "left"), ("predicted", "right"), ("90 % interval", "right"), ("", "left"))
    told = {"threshold": 20.0, **found.report.get("measured", {})}
    for one in found.values:
        name = one.property.name.removesuffix("_ms").removesuffix("_steps").replace("_", " ")
        interval = f"{figure(one.low)} – {figure(one.high)}"
        table.add_row(name, f"{figure(one.value)} {one.property.unit}", interval, one.property.meaning.format_map(told))
    return table


def rows_table(rows: Sequence[JsonView], title: str) -> Table:
    """Networks with figures by name; large counts in thousands or millions."""
    columns = list(rows[0])
    table = new_table(
        *((_header(name), "left" if isinstance(rows[0][name], str) else "right") for name in columns), title=title
    )
    for row in rows:
        table.add_row(*(value if isinstance(value := row[name], str) else _shown(name, value) for name in columns))
    return table


def measured_table(rows: Sequence[JsonView], front: Collection[str], title: str) -> Table:
    """Networks with what is predicted (90 % intervals) and measured (95 %) of each; those of the front have a star."""
    table = new_table(
        ("name", "left"), ("chosen", "left"), ("predicted", "right"), ("90 %", "right"), ("latency, ms", "right"),
        ("95 %", "right"), ("front", "left"), title=title,
    )  # fmt: skip
    for row in rows:
        predicted = f"{figure(row['predicted_low'])} – {figure(row['predicted_high'])}"
        latency = f"{figure(row['low_ms'])} – {figure(row['high_ms'])}"
        cells = figure(row["predicted"]), predicted, figure(row["latency_ms"]), latency
        table.add_row(row["name"], row["chosen"], *cells, "*" if row["name"] in front else "")
    return table


def _header(name: str) -> str:
    plain = {"n_params": "parameters, M", "n_macs": "MACs, M", "top1": "top-1 %", "noisy_top1": "noisy top-1 %"}
    if name in plain:
        return plain[name]
    unit = next((one.unit for one in PROPERTIES if one.name == name), "")
    words = name.removesuffix("_ms").removesuffix("_steps").replace("_", " ")
    return f"{words}, {unit}" if unit else words


def _shown(name: str, value: float) -> str:
    return figure(value / 1e6) if name.startswith("n_") else figure(value)
