"""A predictor of properties that needs no training, for searches."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from onnx_ghn.ghn import ArrayGHN, GHNConfig, new_ghn
from onnx_ghn.properties import PropertyPredictor, save_predictor
from onnx_ghn.properties.features import STATISTICS
from onnx_ghn.properties.regression import Regression


def plain_predictor(folder: Path) -> str:
    """Of accuracy by depth and of latency by multiply-accumulates, near its one support vector."""
    ghn = new_ghn(GHNConfig(hypernet="graphormer", hid=8, heads=2, layers=1, max_shape=(8, 8, 3, 3)), seed=3)
    one = np.ones(1)

    def regression(name: str, **told: float) -> Regression:
        column = ghn.config.hid + STATISTICS.index(name)
        return Regression((column,), np.zeros(1), 20 * one, one[None], 10 * one, 0.0, 1.0, margin=1.0, **told)

    seen = np.random.default_rng(0).normal(size=(10, ghn.config.hid + len(STATISTICS)))
    regressions = {"accuracy": regression("log_depth", target_mean=20.0), "latency_ms": regression("log_macs")}
    return str(save_predictor(PropertyPredictor(ArrayGHN.of(ghn), regressions, seen, {}), folder))
