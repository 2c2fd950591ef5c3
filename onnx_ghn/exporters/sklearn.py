"""scikit-learn: fitted MLPClassifier and MLPRegressor (and such at the end of a Pipeline), by skl2onnx."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.exporters.missing import require
from onnx_ghn.exporters.reports import ExportReport, LoadReport
from onnx_ghn.exporters.roundtrip import export_live, load_live

if TYPE_CHECKING:
    import onnx
    from sklearn.base import BaseEstimator

__all__ = ["LiveEstimator", "export", "load", "save_weights"]

Array = npt.NDArray[Any]


class LiveEstimator:
    """A fitted multilayer perceptron of scikit-learn for `roundtrip`.

    A fit gives it its layers: `partial_fit` on two rows is enough, and training goes on with `partial_fit`, or with
    `fit` where `warm_start` is set.
    """

    framework = "sklearn"
    numbered = False

    def __init__(self, model: BaseEstimator) -> None:
        sklearn = require("sklearn", "sklearn")
        converter = require("skl2onnx", "sklearn")
        self.exporter = f"scikit-learn {sklearn.__version__}, skl2onnx {converter.__version__}"
        self._model = model
        self._perceptron = model.steps[-1][1] if hasattr(model, "steps") else model
        if not hasattr(self._perceptron, "hidden_layer_sizes"):
            raise OptionError(f"a {type(self._perceptron).__name__} has no layers; MLPClassifier and MLPRegressor have")
        if not hasattr(self._perceptron, "coefs_"):
            raise OptionError("the perceptron has no layers before its first fit: call partial_fit on a few rows")

    def _arrays(self) -> dict[str, Array]:
        layers = zip(self._perceptron.coefs_, self._perceptron.intercepts_, strict=True)
        return {
            f"{name}[{i}]": array
            for i, pair in enumerate(layers)
            for name, array in zip(("coefs_", "intercepts_"), pair, strict=True)
        }

    def read(self) -> dict[str, Array]:
        """Copies of the matrices (in × out) and intercepts."""
        return {name: array.copy() for name, array in self._arrays().items()}

    def write(self, values: Mapping[str, Array]) -> None:
        """Set them in place."""
        arrays = self._arrays()
        for name, value in values.items():
            arrays[name][...] = value

    def trainable(self) -> Set[str]:
        """All of them."""
        return self._arrays().keys()

    def convert(self, folder: Path) -> onnx.ModelProto:
        """By skl2onnx, with any number of rows."""
        import skl2onnx
        from skl2onnx.common.data_types import FloatTensorType

        columns = self._model.n_features_in_
        options = {id(self._perceptron): {"zipmap": False}} if hasattr(self._perceptron, "classes_") else None
        try:
            return skl2onnx.to_onnx(
                self._model, initial_types=[("x", FloatTensorType([None, columns]))], options=options
            )
        except Exception as error:
            name = type(self._model).__name__
            raise GraphError(f"{name}: skl2onnx cannot export it ({type(error).__name__}: {error})") from error


def export(
    model: BaseEstimator, path: str | os.PathLike[str], example_inputs: Any = None, *, force: bool = False
) -> ExportReport:
    """Write a fitted perceptron as ONNX, each of its weights traced.

    Args:
        example_inputs: not needed.
        force: overwrite `path`.

    Raises:
        GraphError: skl2onnx cannot export it. ModelWriteError. OptionError: no fitted perceptron, or not installed.
    """
    return export_live(LiveEstimator(model), path, force=force)


def load(model: BaseEstimator, onnx_path: str | os.PathLike[str], example_inputs: Any = None) -> LoadReport:
    """Set a perceptron's weights to those of an ONNX file of it, in place.

    Raises:
        CheckpointError: the file is of another model; this one is unchanged. ModelReadError.
    """
    return load_live(LiveEstimator(model), onnx_path)


def save_weights(model: BaseEstimator, path: Path) -> None:
    """As a .npz of matrices and intercepts."""
    with path.open("wb") as file:
        np.savez(file, **LiveEstimator(model).read())
