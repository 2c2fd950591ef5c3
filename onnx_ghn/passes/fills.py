"""Values that stand for a weight in a stripped file, one of its own for each matrix, so that no tool merges two."""

from __future__ import annotations

import numpy as np

from onnx_ghn.arrays import Array

__all__ = ["neighbour", "plain"]

_MOST_STEPS = 4096  # of a float16 0.0005, of a float32 a number that no sum shows


def neighbour(fill: Array, steps: int) -> Array:
    """The float that is so many steps farther from zero; of types whose steps are large, the fill itself.

    Args:
        fill: one element.
    """
    bits = fill.dtype.itemsize * 8
    if bits < 16 or steps > _MOST_STEPS or fill.dtype.kind in "iub" or not np.isfinite(fill.astype(np.float64)).all():
        return fill
    moved: Array = _bits(fill) + np.array(steps, f"u{bits // 8}")
    return moved.view(fill.dtype)


def plain(fill: Array) -> Array:
    """The 0 or 1 that a fill is a neighbour of; other values as they are."""
    bits = fill.dtype.itemsize * 8
    if bits < 16 or fill.dtype.kind in "iub":
        return fill
    for value in (0, 1):
        base = np.full(1, value, fill.dtype)
        if 0 < int(_bits(fill)[0]) - int(_bits(base)[0]) <= _MOST_STEPS:
            return base
    return fill


def _bits(fill: Array) -> Array:
    return fill.view(f"u{fill.dtype.itemsize}")
