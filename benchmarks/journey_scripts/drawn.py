"""1,000 drawn images of 32 × 32 in ten classes, for an epoch of training anywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["images"]

N, CLASSES = 1000, 10


def images(seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """A bright bar on noise, whose angle is the class: (N, 32, 32, 3) and (N,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, N)
    y, x = np.mgrid[-16:16, -16:16]
    angles = (np.pi * labels / CLASSES)[:, None, None]  # (N, 1, 1)
    bars = np.abs(x * np.sin(angles) - y * np.cos(angles)) < 2  # (N, 32, 32)
    noise = rng.normal(0, 0.5, (N, 32, 32, 3))
    return (noise + bars[..., None]).astype(np.float32), labels
