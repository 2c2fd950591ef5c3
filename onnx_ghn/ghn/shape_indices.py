"""Which rows of the shape embeddings a node's shape takes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["ShapeIndices", "four_axes", "seen_channels"]

_CACHE_SIZE = 65_536  # distinct shapes kept; a training run over DeepNets-1M meets a few thousand


def four_axes(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """A canonical shape as out × in × kh × kw, as the published encoder sees it.

    (C,) -> (C, 1, 1, 1), (O, I) -> (O, I, 1, 1), a position table (1, N, D) -> (1, D, s, s) with
    s = floor(sqrt N), any other (A, B, C) -> (A, B, C, 1) (facebookresearch/ppuda, ppuda/ghn/layers.py,
    `tensor_shape_to_4d`).
    Axes between the third and the last of longer shapes are joined, which no published rule covers.
    """
    sizes = tuple(int(size) for size in shape)
    if len(sizes) == 3 and sizes[0] == 1 and min(sizes[1:]) > 1:
        side = math.isqrt(sizes[1])
        return 1, sizes[2], side, side
    if len(sizes) > 4:
        return sizes[0], sizes[1], math.prod(sizes[2:-1]), sizes[-1]
    padded = sizes + (1,) * (4 - len(sizes))
    return padded[0], padded[1], padded[2], padded[3]


def _nearest(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Table from a size, 0 to values[-1], to the index of the nearest value (the lower of two as near)."""
    sizes = np.arange(values[-1] + 1)
    upper = np.searchsorted(values, sizes).clip(max=len(values) - 1)
    lower = (upper - 1).clip(min=0)
    return np.where(sizes - values[lower] <= values[upper] - sizes, lower, upper)


@functools.lru_cache(maxsize=64)
def _tables(num_classes: int, max_kernel: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int, int]:
    """Lookup tables of channels and of kernel sizes, and how many values each has.

    The seen values: 1, 3, num_classes, 8 to 64 by 8, 64 to 4096 by 16, 4096 to 8192 by 32 channels; odd
    kernel sizes below max(12, max_kernel), 14 and 16. Every other size counts as its nearest seen one.
    """
    channels = seen_channels(num_classes)
    kernels = _sorted([*range(1, max(12, max_kernel), 2), 14, 16])
    channel_table, kernel_table = _nearest(channels), _nearest(kernels)
    # 4 to 7 channels count as 8, whatever is nearer and even where that is num_classes.
    channel_table[4:8] = np.searchsorted(channels, 8)
    kernel_table[2] = np.searchsorted(kernels, 3)  # 2×2, not seen in training, counts as 3×3
    return channel_table, kernel_table, len(channels), len(kernels)


def seen_channels(num_classes: int) -> npt.NDArray[np.int64]:
    """The channel counts that have a row of their own, ascending: the rows of the table but the last."""
    return _sorted([1, 3, num_classes, *range(8, 64, 8), *range(64, 4096, 16), *range(4096, 8193, 32)])


def _sorted(sizes: list[int]) -> npt.NDArray[np.int64]:
    """Each size once. (numpy's own function imports its masked arrays for that, which takes longer than the rest.)"""
    return np.array(sorted(set(sizes)), np.int64)


class ShapeIndices:
    """Indices into the two tables of the shape embedding.

    Args:
        num_classes: joins the seen channel counts.
        max_kernel: largest kernel side that is decoded.
    """

    def __init__(self, num_classes: int, max_kernel: int) -> None:
        self._key = (num_classes, max_kernel)
        self._cache: dict[tuple[int, ...], tuple[int, int, int, int]] = {}
        *_, n_channels, n_kernels = _tables(*self._key)
        # The last row of each is for nodes without a shape.
        self.n_channel_rows, self.n_kernel_rows = n_channels + 1, n_kernels + 1

    def _lookup(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        channel_table, kernel_table, *_ = _tables(*self._key)
        row = []
        for axis, size in enumerate(four_axes(shape)):
            table = channel_table if axis < 2 else kernel_table
            # Larger than every seen value, or empty: the largest, as published.
            row.append(int(table[size if 0 < size < len(table) else -1]))
        return row[0], row[1], row[2], row[3]

    def of(self, shapes: Sequence[tuple[int, ...] | None]) -> npt.NDArray[np.int64]:
        """(N, 4) rows of the embedding tables for the shapes of N nodes, None for a node without one."""
        cache = self._cache
        if len(cache) > _CACHE_SIZE:
            cache.clear()
        *_, n_channels, n_kernels = _tables(*self._key)
        dummy = (n_channels, n_channels, n_kernels, n_kernels)
        rows = []
        for shape in shapes:
            row = dummy if shape is None else cache.get(shape)
            if row is None:
                assert shape is not None
                row = cache[shape] = self._lookup(shape)
            rows.append(row)
        return np.array(rows, dtype=np.int64).reshape(-1, 4)
