"""Measure one row with one network, in the environment of its group.

    python -m compatibility_runs.measure_row ROW NETWORK FOLDER    # writes FOLDER/cells.json

Judging and predicting happen in the environment of onnx-ghn, whose interpreter ONNX_GHN_PYTHON names.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

from compatibility_runs.cells import Cell
from compatibility_runs.rows import ROWS, Row

__all__ = ["judged", "main"]


def main() -> None:
    """Hand the row to the module that knows it."""
    warnings.simplefilter("ignore")
    key, network, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    row = next(row for row in ROWS if row.key == key)
    module = importlib.import_module(f"compatibility_runs.{row.module}")
    cells = module.measure(row, network, folder)
    (folder / "cells.json").write_text(json.dumps({name: dataclasses.asdict(cell) for name, cell in cells.items()}))


def judged(module: str, folder: Path, row: Row, *words: str) -> dict[str, Cell]:
    """What a module of judges says of the files in a folder."""
    command = [os.environ["ONNX_GHN_PYTHON"], "-m", f"compatibility_runs.{module}", str(folder), str(row.tolerance)]
    environ = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    done = subprocess.run([*command, *words], env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"the judge failed: {last}")
    return {name: Cell(**cell) for name, cell in json.loads((folder / "judged.json").read_text()).items()}


if __name__ == "__main__":
    main()
