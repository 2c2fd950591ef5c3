"""scikit-learn's multilayer perceptron by skl2onnx."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.neural_network import MLPRegressor

from compatibility_runs.built import Built, Exporter
from compatibility_runs.cells import Cell
from compatibility_runs.exporting import measure_exporter
from compatibility_runs.rows import Row

__all__ = ["measure"]


def _build(network: str) -> Built:
    x = np.random.default_rng(0).random((40, 6), dtype=np.float32)
    model = MLPRegressor(hidden_layer_sizes=(16, 8), max_iter=2, random_state=0).fit(x, x[:, :2] - x[:, 2:4])
    return Built(
        model,
        [x],
        lambda: model.predict(x),
        sum(array.size for array in (*model.coefs_, *model.intercepts_)),
        {f"coefs_[{i}]": coefficients.T.copy() for i, coefficients in enumerate(model.coefs_)},
    )


def _export(built: Built, path: Path) -> None:
    from skl2onnx import to_onnx

    path.write_bytes(to_onnx(built.model, built.inputs[0][:1]).SerializeToString())


def _load(built: Built, path: Path) -> object:
    from onnx_ghn.exporters import sklearn as exporter

    return exporter.load(built.model, path)


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """The cells of the perceptron."""
    return measure_exporter({"skl2onnx": Exporter(_build, _export, _load)}, row, network, folder)
