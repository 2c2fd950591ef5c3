"""What the page shows of predicted properties: those of the bundled predictor, where there is one."""

from __future__ import annotations

import importlib.resources
import os
from typing import Any

from onnx_ghn.errors import OnnxGhnError
from onnx_ghn.properties import PropertyReport, predict_properties

__all__ = ["bundled_properties", "properties_data"]


def bundled_properties(source: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Predicted properties of a model file; None where no predictor is bundled.

    What the predictor cannot take (a model whose shapes are unknown) is a note of the page, not the end of it.
    """
    from onnx_ghn.properties.storage import DEFAULT

    if not importlib.resources.files("onnx_ghn.checkpoints").joinpath(DEFAULT).is_dir():
        return None
    try:
        return properties_data(predict_properties(source))
    except OnnxGhnError as error:
        return {"rows": [], "notes": [str(error)]}


def properties_data(found: PropertyReport) -> dict[str, Any]:
    """A row for each property, and notes."""
    told = {"threshold": 20.0, **found.report.get("measured", {})}
    rows = [
        {
            "name": one.property.name.removesuffix("_ms").removesuffix("_steps").replace("_", " "),
            "value": one.value,
            "low": one.low,
            "high": one.high,
            "unit": one.property.unit,
            "meaning": one.property.meaning.format_map(told),
        }
        for one in found.values
    ]
    notes = []
    if found.far:
        outside = f" ({', '.join(found.outside)})" if found.outside else ""
        notes.append(f"This model is far from what the predictor has seen{outside}: take the figures for guesses.")
    return {"rows": rows, "notes": notes}
