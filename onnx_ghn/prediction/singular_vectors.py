"""The vectors by which spectral normalisation finds the largest singular value of a weight (Miyato et al. 2018)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["leading_vectors"]

_MOST_STEPS = 200  # torch takes 15 when a layer is made, and one more in each step of training
_ACCURACY = 1e-6  # by which the singular value still grows in a step, when the iteration ends
_SMALLEST = 1e-12


def leading_vectors(
    matrix: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The left and the right singular vector of the largest singular value, by power iteration.

    Args:
        matrix: (rows, columns).

    Returns:
        u (rows,) and v (columns,), both of length 1: u · matrix v is the largest singular value.
    """
    u = np.random.default_rng(0).standard_normal(len(matrix))
    value = 0.0
    for _ in range(_MOST_STEPS):
        v = _unit(u @ matrix)
        u = matrix @ v
        before, value = value, float(np.linalg.norm(u))
        u = _unit(u)
        if value - before <= _ACCURACY * value:
            break
    return u, v


def _unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    unit: npt.NDArray[np.float64] = vector / max(float(np.linalg.norm(vector)), _SMALLEST)
    return unit
