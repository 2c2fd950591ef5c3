"""What onnx-ghn makes of a file of a network whose truths are known. Runs where onnx-ghn and torch are.

python -m compatibility_runs.judging FOLDER TOLERANCE    # model.onnx and truths in; predicted.onnx and judged.json out
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from compatibility_runs.built import read_truths
from compatibility_runs.cells import Cell
from compatibility_runs.comparing import compare
from compatibility_runs.messages import short
from compatibility_runs.running_files import run
from onnx_ghn.errors import OnnxGhnError

__all__ = ["judge", "layout_cell", "same_values", "stored_values", "ties_cell"]


def judge(folder: Path, tolerance: float) -> dict[str, Cell]:
    """Predict a file, and hold what is found in it against the truths.

    Leaves predicted.onnx, and its outputs in predicted.npy.
    """
    from onnx_ghn import predict
    from onnx_ghn.onnx_io import read_model, stored_tensors

    inputs, outputs, matrices, n_trainable, embedding = read_truths(folder)
    source, target = folder / "model.onnx", folder / "predicted.onnx"
    cells: dict[str, Cell] = {}
    try:
        cells["outputs"] = compare(run(source, inputs), outputs, tolerance)
    except Exception as error:  # noqa: BLE001 - onnxruntime's own, of many types; the cell tells it
        cells["outputs"] = Cell("refused", f"onnxruntime: {short(error)}")
    try:
        prediction = predict(source, target, force=True)
    except OnnxGhnError as error:
        return {**cells, "found": Cell("refused", str(error))}
    found, unsure = prediction.coverage.n_trainable, sum(e.parameter.size for e in prediction.coverage.uncertain)
    text = f"{found:,} of {n_trainable:,}" + (f" ({unsure:,} may be learned)" if unsure else "")
    cells["found"] = Cell("yes") if found == n_trainable else Cell("no", text)
    before = stored_values(source)
    stored = stored_tensors(read_model(source))  # quantised ones too
    rows = [p.layout.to_canonical(stored[p.name].numpy()) for p in prediction.graph.parameters if p.name in stored]
    cells["layout"] = layout_cell(matrices, rows)
    if embedding:
        cells["ties"] = ties_cell(matrices[embedding], before, stored_values(target))
    if cells["outputs"].grade != "refused":
        np.save(folder / "predicted.npy", run(target, inputs))
    return cells


def stored_values(path: Path) -> dict[str, np.ndarray]:
    """All stored tensors of floats of a file, by name."""
    from onnx_ghn.onnx_io import read_model, stored_tensors

    return {
        name: tensor.numpy()
        for name, tensor in stored_tensors(read_model(path)).items()
        if not tensor.is_sparse and not tensor.is_string and tensor.dtype.is_floating_point()
    }


def layout_cell(matrices: Mapping[str, np.ndarray], rows: Iterable[np.ndarray]) -> Cell:
    """Whether each matrix of the framework is among the canonical ones.

    Their rows, one for each output, are compared as a set, and without their lengths: formats order and stack the
    gates of an LSTM differently, and an exporter that folds a batch norm scales each output.
    """
    known: dict[int, list[np.ndarray]] = {}
    for row in rows:
        if row.ndim > 1 and row.size:
            known.setdefault(row[0].size, []).append(_rows(row))
            if row.ndim == 3:  # directions or heads × outputs × inputs
                known.setdefault(row.shape[2], []).append(_rows(row.reshape(-1, row.shape[2])))
    wrong = []
    for name, matrix in matrices.items():
        wanted = _rows(matrix)
        found = known.get(wanted.shape[1])
        if found is None or not _all_among(wanted, np.concatenate(found)):
            wrong.append(name)
    if not wrong:
        return Cell("yes")
    return Cell("no", f"{len(matrices) - len(wrong)} of {len(matrices)}: not {', '.join(wrong)}")


def ties_cell(embedding: np.ndarray, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> Cell:
    """Whether all that held the embedding hold one tensor after `predict`, be it transposed."""
    key = _sorted(embedding)
    names = [name for name, values in before.items() if np.array_equal(_sorted(values), key)]
    names = [name for name in names if name in after]
    if not names:
        return Cell("no", "the embedding is not in the file as it is")
    first = after[names[0]]
    same = [
        after[name]
        for name in names
        if any(
            turned.shape == first.shape and np.array_equal(turned, first)
            for turned in (after[name], np.swapaxes(after[name], -1, -2))
        )
    ]
    return Cell("yes") if len(same) == len(names) else Cell("no", f"{len(names)} tensors with different values")


def same_values(truth: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray], tolerance: float) -> Cell:
    """Whether each tensor of several elements is among others, under any name and in any order of its axes."""
    keys = [_sorted(value) for value in values.values()]
    missing = [
        name
        for name, value in truth.items()
        if value.size > 1 and not any(_close(_sorted(value), key, tolerance) for key in keys)
    ]
    if not missing:
        return Cell("yes")
    return Cell("no", f"{len(truth) - len(missing)} of {len(truth)} tensors, not {', '.join(missing[:2])}")


def _close(first: np.ndarray, second: np.ndarray, tolerance: float) -> bool:
    if first.size != second.size:
        return False
    largest = float(np.abs(first).max()) or 1.0
    return bool(np.abs(first.astype(np.float64) - second).max() <= tolerance * largest)


def _rows(matrix: np.ndarray) -> np.ndarray:
    """outputs × all else, each row of length 1."""
    flat = matrix.reshape(matrix.shape[0], -1).astype(np.float64)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)


def _all_among(wanted: np.ndarray, known: np.ndarray) -> bool:
    """Whether each row is among the known ones, be they of the opposite sign."""
    return bool((np.abs(wanted @ known.T).max(1) > 1 - 1e-4).all())  # (n, d) x (d, m) -> (n, m)


def _sorted(values: np.ndarray) -> np.ndarray:
    return np.sort(values, axis=None)


def _main() -> None:
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    cells = {name: {"grade": cell.grade, "text": cell.text} for name, cell in judge(folder, float(sys.argv[2])).items()}
    (folder / "judged.json").write_text(json.dumps(cells))


if __name__ == "__main__":
    _main()
