"""The predicted properties that the page shows, which come from the bundled predictor where there is prediction."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from onnx_ghn.errors import OnnxGhnError
from onnx_ghn.properties import PropertyReport, predict_properties, predict_where_calibrated
from onnx_ghn.shipped import shipped_checkpoints

if TYPE_CHECKING:
    from onnx_ghn.properties import MachineReport
    from onnx_ghn.properties.machine.prediction import MachineValue

__all__ = ["bundled_properties", "machine_data", "properties_data"]


def bundled_properties(source: str | os.PathLike[str]) -> dict[str, object] | None:
    """Predict the properties of a model file. None where no predictor is bundled.

    A model that the predictor cannot take (its shapes are unknown) gets a note on the page in the place of properties.
    Where this machine is calibrated, latency and memory on it follow.
    """
    from onnx_ghn.properties.storage import DEFAULT

    if not (shipped_checkpoints() / DEFAULT).is_dir():
        return None
    try:
        rows, notes = properties_data(predict_properties(source)).values()
    except OnnxGhnError as error:
        rows, notes = [], [str(error)]
    try:
        reports = predict_where_calibrated(source)
    except OnnxGhnError as error:
        return {"rows": rows, "notes": [*notes, f"Latency and memory on this machine are not predicted: {error}"]}
    here = [machine_data(report) for report in reports]
    return {
        "rows": [*rows, *(row for one in here for row in one["rows"])],
        "notes": [*notes, *dict.fromkeys(note for one in here for note in one["notes"])],
    }


def machine_data(report: MachineReport) -> dict[str, list[Any]]:
    """Rows of latency and memory on this machine, and notes."""
    threads = report.identity.threads_label
    rows = [_row(f"latency here, {threads}", report.latency, 1.0, "ms", "median of runs on the machine of this report")]
    if report.peak_memory is not None:
        rows.append(_row(f"peak memory here, {threads}", report.peak_memory, 1e6, "MB", "of the process that runs it"))
    notes = (
        [] if report.is_sized else ["Operators of sizes that a run would tell count as small ones in the latency here."]
    )
    return {"rows": rows, "notes": notes}


def _row(name: str, one: MachineValue, unit: float, unit_name: str, meaning: str) -> dict[str, object]:
    low, high = (None if end is None else end / unit for end in (one.low, one.high))
    return {"name": name, "value": one.value / unit, "low": low, "high": high, "unit": unit_name, "meaning": meaning}


def properties_data(properties: PropertyReport) -> dict[str, list[Any]]:
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
    if properties.unlike:
        sentence = properties.unlike[0].upper() + properties.unlike[1:]
        notes.append(f"{sentence}, and the predictor has seen classifiers of images alone: nothing is predicted.")
    elif properties.far:
        outside = f" ({', '.join(properties.outside)})" if properties.outside else ""
        notes.append(f"This model is far from what the predictor has seen{outside}: take the figures for guesses.")
    return {"rows": rows, "notes": notes}
