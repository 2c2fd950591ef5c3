"""The ratio of two medians of runs in turn, and its interval."""

from __future__ import annotations

import numpy as np

from onnx_ghn.arrays import Array

__all__ = ["ratio_of_medians"]

_RESAMPLES = 1000


def ratio_of_medians(model: Array, against: Array, seed: int) -> tuple[float, float, float]:
    """The ratio and its 95 % interval, by scipy's percentile bootstrap over pairs of neighbouring runs."""
    from scipy.stats import bootstrap

    def statistic(a: Array, b: Array, axis: int = -1) -> Array:
        return np.asarray(np.median(a, axis=axis) / np.median(b, axis=axis))

    ratio = float(statistic(model, against))
    if len(model) < 2:
        return ratio, ratio, ratio
    # Blocks of resamples of at most some 4 million figures.
    batch = max(1, min(_RESAMPLES, 4_000_000 // len(model)))
    interval = bootstrap(
        (model, against),
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=batch,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return ratio, float(interval.low), float(interval.high)
