"""Decoded blocks brought to the size of a kernel, or of a table of positions, on arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["fit_kernel", "position_rows"]


def fit_kernel(values: npt.NDArray[np.float32], kernel: tuple[int, int]) -> npt.NDArray[np.float32]:
    """(..., h, w) interpolated bilinearly to a kernel that exceeds max_shape, each axis on its own.

    As GHN-3 does (SamsungSAILMontreal/ghn3, ghn3/nn.py, `ConvDecoder3.forward`, align_corners off).
    """
    if values.shape[-2:] == kernel:
        return values
    down, across = (_between(wanted, size) for wanted, size in zip(kernel, values.shape[-2:], strict=True))
    return np.asarray(down @ values @ across.T, np.float32)


def _between(wanted: int, size: int) -> npt.NDArray[np.float32]:
    """(wanted, size): how much of each of `size` values each of `wanted` takes; its centres lie between theirs."""
    place = np.maximum((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0)
    below = place.astype(np.int64)
    share = (place - below).astype(np.float32)
    matrix = np.zeros((wanted, size), np.float32)
    np.add.at(matrix, (np.arange(wanted), below), 1 - share)
    np.add.at(matrix, (np.arange(wanted), np.minimum(below + 1, size - 1)), share)
    return matrix


def position_rows(grid: npt.NDArray[np.float32], n_positions: int, leading: int) -> npt.NDArray[np.float32]:
    """(1, D, s, s) decoded grid -> (1, N, D) position table. The leading rows, which GHN-3 draws, are zero."""
    rows = grid.reshape(*grid.shape[:2], -1).transpose(0, 2, 1)  # (1, D, s * s) -> (1, s * s, D)
    return np.pad(rows, ((0, 0), (leading, 0), (0, 0)))[:, :n_positions]
