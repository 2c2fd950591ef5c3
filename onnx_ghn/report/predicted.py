"""The predicted properties that the page shows, which come from the bundled predictor where there is prediction."""

from __future__ import annotations

import os

from onnx_ghn.errors import OnnxGhnError
from onnx_ghn.properties import PropertyReport, predict_properties
from onnx_ghn.shipped import shipped_checkpoints

__all__ = ["bundled_properties", "properties_data"]


def bundled_properties(source: str | os.PathLike[str]) -> dict[str, object] | None:
    """Predict the properties of a model file. None where no predictor is bundled.

    A model that the predictor cannot take (its shapes are unknown) gets a note on the page in the place of properties.
    """
    from onnx_ghn.properties.storage import DEFAULT

    if not (shipped_checkpoints() / DEFAULT).is_dir():
        return None
    try:
        return properties_data(predict_properties(source))
    except OnnxGhnError as error:
        return {"rows": [], "notes": [str(error)]}


def properties_data(properties: PropertyReport) -> dict[str, object]:
    """A row for each property, and notes."""
    conditions = {"threshold": 20.0, **properties.report.get("measured", {})}
    rows = [
        {
            "name": prediction.property.name.removesuffix("_ms").removesuffix("_steps").replace("_", " "),
            "value": prediction.value,
            "low": prediction.low,
            "high": prediction.high,
            "unit": prediction.property.unit,
            "meaning": prediction.property.meaning.format_map(conditions),
        }
        for prediction in properties.values
    ]
    notes = []
    if properties.far:
        outside = f" ({', '.join(properties.outside)})" if properties.outside else ""
        notes.append(f"This model is far from what the predictor has seen{outside}: take the figures for guesses.")
    return {"rows": rows, "notes": notes}
