"""Filling a framework's model with predicted weights where it is: an export, a prediction and a load in one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

from onnx_ghn.exporters.live import LiveModel
from onnx_ghn.exporters.reports import LoadReport
from onnx_ghn.exporters.roundtrip import load_live, to_model
from onnx_ghn.exporters.weight_map import Array
from onnx_ghn.prediction.options import PredictKeywords, PredictOptions

if TYPE_CHECKING:
    from onnx_ghn.ghn import GHN, ArrayGHN
    from onnx_ghn.prediction.coverage import CoverageReport

__all__ = ["Initialization", "initialize_live", "rounded_by_float32", "split_keywords"]


@dataclasses.dataclass(frozen=True)
class Initialization:
    """What `initialize` did: the coverage of the prediction, and the report of the load."""

    coverage: CoverageReport
    load: LoadReport
    ghn_name: str

    def __repr__(self) -> str:
        n_unchanged = len(self.load.unmatched)
        unchanged = f", {n_unchanged} weights kept" if n_unchanged else ""
        return f"Initialization(by {self.ghn_name}: {self.coverage!r}{unchanged})"


def split_keywords(keywords: Mapping[str, object]) -> tuple[PredictKeywords, dict[str, object]]:
    """Those keyword arguments that are fields of `PredictOptions`, and those that an export takes."""
    names = PredictKeywords.__annotations__
    predicting = {name: value for name, value in keywords.items() if name in names}
    return cast(PredictKeywords, predicting), {n: value for n, value in keywords.items() if n not in names}


def initialize_live(
    live: LiveModel, options: PredictOptions, ghn: str | os.PathLike[str] | GHN | ArrayGHN | None = None
) -> Initialization:
    """Fill a live model with predicted weights in place; what the prediction keeps stays bit for bit.

    The files of the export are gone afterwards, also after an error.

    Args:
        options: how to predict.
        ghn: see `onnx_ghn.predict`.

    Raises:
        OnnxGhnError: see `onnx_ghn.predict` and `export_live`. The model is then unchanged.
    """
    from onnx_ghn.prediction.predicting import predict

    originals = rounded_by_float32(live.read())
    with to_model(live) as exported:
        prediction = predict(exported.model, ghn=ghn, options=options)
        report = load_live(live, prediction.model)
    if originals:
        _restore_digits(live, originals)
    return Initialization(prediction.coverage, report, prediction.ghn_name)


def rounded_by_float32(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Those of float64 that have digits which float32 does not hold: a file may lose these, and of no others."""
    return {
        name: values
        for name, values in weights.items()
        if values.dtype == np.float64 and not np.array_equal(values, _as_float32(values), equal_nan=True)
    }


def _restore_digits(live: LiveModel, originals: Mapping[str, Array]) -> None:
    """Give kept weights of float64 the digits again that an exporter of float32 took from them."""
    now = live.read()
    live.write(
        {
            name: original
            for name, original in originals.items()
            if np.array_equal(now[name], _as_float32(original), equal_nan=True)
        }
    )


def _as_float32(values: Array) -> Array:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, as in a file
        return values.astype(np.float32)
