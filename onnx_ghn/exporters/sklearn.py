"""scikit-learn: a fitted MLPClassifier or MLPRegressor, alone or last in a Pipeline, is exported by skl2onnx."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.errors import OptionError
from onnx_ghn.exporters.bridge import Bridge, converting
from onnx_ghn.exporters.live import LiveModel
from onnx_ghn.exporters.weight_map import Array
from onnx_ghn.installing import require

if TYPE_CHECKING:
    import onnx
    from sklearn.base import BaseEstimator

__all__ = ["LiveEstimator", "export", "initialize", "load", "save_weights"]


class LiveEstimator(LiveModel):
    """Adapts a fitted multilayer perceptron of scikit-learn to `roundtrip.LiveModel`.

    A perceptron has layers only after a fit: `partial_fit` on two rows is enough. Training goes on with `partial_fit`,
    or with `fit` where `warm_start` is set.

    Args:
        example_inputs: not used; a fitted model knows its inputs.
    """

    framework = "sklearn"

    def __init__(self, model: BaseEstimator, example_inputs: object = None) -> None:
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
        """Set weights in place."""
        arrays = self._arrays()
        for name, value in values.items():
            arrays[name][...] = value

    def trainable(self) -> Set[str]:
        """All weights."""
        return self._arrays().keys()

    def convert(self, folder: Path) -> onnx.ModelProto:
        """Convert the model for any number of rows, by skl2onnx."""
        import skl2onnx
        from skl2onnx.common.data_types import FloatTensorType

        columns = self._model.n_features_in_
        options = {id(self._perceptron): {"zipmap": False}} if hasattr(self._perceptron, "classes_") else None
        with converting(type(self._model).__name__, "skl2onnx"):
            proto: onnx.ModelProto = skl2onnx.to_onnx(
                self._model, initial_types=[("x", FloatTensorType([None, columns]))], options=options
            )
        return proto


_bridge = Bridge(LiveEstimator)
export, load, initialize = _bridge.export, _bridge.load, _bridge.initialize


def save_weights(model: BaseEstimator, path: Path) -> None:
    """Save the matrices and intercepts as `<name>.npz`."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **LiveEstimator(model).read())
