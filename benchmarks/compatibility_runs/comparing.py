"""When two outputs count as equal."""

from __future__ import annotations

import numpy as np

from compatibility_runs.cells import Cell

__all__ = ["compare"]


def compare(values: np.ndarray, truth: np.ndarray, tolerance: float = 1e-3) -> Cell:
    """Whether outputs are equal: the largest difference, relative to the largest value."""
    values = np.asarray(values, np.float64)
    if values.shape != truth.shape:
        return Cell("no", f"shape {list(values.shape)} for {list(truth.shape)}")
    if not np.isfinite(values).all():
        return Cell("no", "values that are not finite")
    largest = float(np.abs(truth.astype(np.float64)).max()) or 1.0
    off = float(np.abs(values - truth).max()) / largest
    return Cell("yes") if off <= tolerance else Cell("no", f"off by {off:.1%} of the largest value")
