"""The prepared files, as the rows that are given one see them."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from compatibility_runs.cells import Cell
from compatibility_runs.comparing import compare

__all__ = ["Given", "given", "trainer_cells"]


@dataclasses.dataclass(frozen=True)
class Given:
    """A predicted file, inputs for it, onnxruntime's outputs, and what we call trainable: names and sizes."""

    path: Path
    inputs: list[np.ndarray]
    outputs: np.ndarray
    trained: dict[str, int]


def given(network: str) -> Given:
    """The files of a network, in the folder that ONNX_GHN_PREPARED names."""
    folder = Path(os.environ["ONNX_GHN_PREPARED"])
    with np.load(folder / f"{network}.npz") as arrays:
        inputs = [arrays[f"in:{i}"] for i in range(sum(key.startswith("in:") for key in arrays))]
        outputs = arrays["out"]
    facts = json.loads((folder / f"{network}.json").read_text())
    return Given(folder / f"{network}.onnx", inputs, outputs, facts["trained"])


def trainer_cells(files: Given, outputs: np.ndarray, n_trained: int, tolerance: float) -> dict[str, Cell]:
    """The cells of a trainer, from what its model gives and trains."""
    wanted = sum(files.trained.values())
    found = Cell("yes") if n_trained == wanted else Cell("no", f"trains {n_trained:,} of {wanted:,}")
    return {"found": found, "outputs": compare(outputs, files.outputs, tolerance)}
