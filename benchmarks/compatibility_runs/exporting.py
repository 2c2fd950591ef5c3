"""The cells of an exporter: its file judged, and the predicted file loaded back where onnx-ghn can."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from compatibility_runs.built import Exporter
from compatibility_runs.cells import Cell
from compatibility_runs.comparing import compare
from compatibility_runs.measure_row import judged
from compatibility_runs.messages import short
from compatibility_runs.rows import Row

__all__ = ["measure_exporter"]


def measure_exporter(exporters: Mapping[str, Exporter], row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """Export a network, judge the file, and load what was predicted."""
    exporter = exporters[row.key]
    built = exporter.build(network)
    built.write_truths(folder)
    try:
        exporter.export(built, folder / "model.onnx")
    except Exception as error:  # noqa: BLE001 - of foreign software; the cell tells it
        return {"outputs": Cell("refused", f"the export fails: {short(error)}")}
    cells = judged("judging", folder, row)
    if exporter.load is None or not (folder / "predicted.npy").exists():
        return cells
    try:
        exporter.load(built, folder / "predicted.onnx")
    except Exception as error:  # noqa: BLE001 - likewise
        return {**cells, "loads": Cell("refused", short(error))}
    return {**cells, "loads": compare(built.call(), np.load(folder / "predicted.npy"), row.tolerance)}
