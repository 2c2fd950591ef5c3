"""What is left of a predicted file after a tool. Runs where onnx-ghn and torch are.

python -m compatibility_runs.judging_tools FOLDER TOLERANCE NETWORK    # after.onnx in, judged.json out
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np

from compatibility_runs.cells import Cell
from compatibility_runs.comparing import compare
from compatibility_runs.from_torch import load
from compatibility_runs.judging import same_values, stored_values
from compatibility_runs.messages import short
from compatibility_runs.running_files import run
from compatibility_runs.torch_networks import build
from onnx_ghn import predict
from onnx_ghn.errors import OnnxGhnError

__all__ = ["judge_tool"]


def judge_tool(folder: Path, tolerance: float, network: str) -> dict[str, Cell]:
    """The cells of a tool for one network."""
    prepared = Path(os.environ["ONNX_GHN_PREPARED"])
    before, after = prepared / f"{network}.onnx", folder / "after.onnx"
    with np.load(prepared / f"{network}.npz") as arrays:
        inputs, outputs = [arrays["in:0"]], arrays["out"]
    cells = {"outputs": _outputs(after, inputs, outputs, tolerance)}
    again = predict(before)  # what a second prediction makes of the file as it was
    wanted = {name: again[name] for name in again}
    again.save(folder / "again.onnx")
    truth = run(folder / "again.onnx", inputs)
    try:
        found = predict(after, folder / "after-predicted.onnx")
    except OnnxGhnError as error:
        cells["prediction"] = Cell("refused", str(error))
    else:
        n_before, n_after = again.coverage.n_trainable, found.coverage.n_trainable
        same = n_before == n_after
        cells["found"] = Cell("yes") if same else Cell("no", f"{n_after:,} after the tool, {n_before:,} before")
        cells["prediction"] = _prediction(folder / "after-predicted.onnx", wanted, inputs, truth, tolerance)
    if (bare := folder / "after-bare.onnx").exists():
        cells["bare"] = _bare(folder, bare, prepared / f"{network}-bare.onnx", inputs, tolerance)
    return {**cells, "loads": _loads(network, before, after, inputs, tolerance)}


def _outputs(path: Path, inputs: list[np.ndarray], truth: np.ndarray, tolerance: float) -> Cell:
    try:
        return compare(run(path, inputs), truth, tolerance)
    except Exception as error:  # noqa: BLE001 - onnxruntime's own, of many types; the cell tells it
        return Cell("refused", f"onnxruntime: {short(error)}")


def _prediction(
    path: Path, wanted: dict[str, np.ndarray], inputs: list[np.ndarray], truth: np.ndarray, tolerance: float
) -> Cell:
    """By value; where a tool folded or quantised what it found, the outputs tell whether it is the same function."""
    values = same_values(wanted, stored_values(path), tolerance)
    if values.grade == "yes":
        return values
    outputs = _outputs(path, inputs, truth, tolerance)
    if outputs.grade == "yes":
        return Cell("yes", f"by the outputs; by value {values.text}")
    return Cell("no", f"{values.text}; outputs {outputs.text}")


def _bare(folder: Path, after: Path, before: Path, inputs: list[np.ndarray], tolerance: float) -> Cell:
    try:
        first, second = predict(before), predict(after)
    except OnnxGhnError as error:
        return Cell("refused", str(error))
    first.save(folder / "bare-predicted.onnx")
    second.save(folder / "after-bare-predicted.onnx")
    wanted = {name: first[name] for name in first}
    truth = run(folder / "bare-predicted.onnx", inputs)
    return _prediction(folder / "after-bare-predicted.onnx", wanted, inputs, truth, tolerance)


def _loads(network: str, before: Path, after: Path, inputs: list[np.ndarray], tolerance: float) -> Cell:
    """Whether a file is loaded rightly, or refused where it does not hold the weights any more."""
    other = build(network, seed=1)
    try:
        load(other, after)
    except OnnxGhnError as error:
        held = same_values(stored_values(before), stored_values(after), 1e-3)
        kind = "although it holds all weights" if held.grade == "yes" else "rightly"
        return Cell("refused", f"{kind}: {short(error)}")
    truth = build(network, seed=2)
    load(truth, before)
    return compare(other.call(), truth.call(), tolerance)


def _main() -> None:
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    cells = judge_tool(folder, float(sys.argv[2]), sys.argv[3])
    (folder / "judged.json").write_text(json.dumps({name: dataclasses.asdict(cell) for name, cell in cells.items()}))


if __name__ == "__main__":
    _main()
