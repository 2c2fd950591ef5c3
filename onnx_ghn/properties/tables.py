"""Tables for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from onnx_ghn.properties.prediction import PropertyReport

__all__ = ["figure", "properties_table"]


def figure(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.{0 if abs(value) >= 99.5 else 1 if abs(value) >= 9.95 else 2}f}"


def properties_table(found: PropertyReport) -> Table:
    """Each property, its interval, and what it means."""
    table = _table((("", "left"), ("predicted", "right"), ("90 % interval", "right"), ("", "left")))
    told = {"threshold": 20.0, **found.report.get("measured", {})}
    for one in found.values:
        name = one.property.name.removesuffix("_ms").removesuffix("_steps").replace("_", " ")
        interval = f"{figure(one.low)} – {figure(one.high)}"
        table.add_row(name, f"{figure(one.value)} {one.property.unit}", interval, one.property.meaning.format_map(told))
    return table


def _table(columns: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in columns:
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    return table
