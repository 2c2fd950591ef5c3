"""Pictures that look like no photograph and share the statistics of many: leaves that cover one another.

Dead leaves (Lee, Mumford and Huang, "Occlusion models for natural images", IJCV 2001): shapes of all sizes, each of one
shade, one upon the other, have the edges and the power spectrum of natural images, which white noise has not.
"""

from __future__ import annotations

import numpy as np

from onnx_ghn.arrays import Array

__all__ = ["dead_leaves"]

_LEAVES = 40  # a picture
_SMALLEST, _LARGEST = 0.05, 0.5  # half the size of a leaf, as a share of the longer side
_COLOUR = 0.15  # standard deviation of a channel's own shade, that of all channels being 1
_GRADIENT = 0.3  # of the shade across a leaf
_CONTRAST = 0.5  # standard deviation of the logarithm of a picture's contrast
_SMALL_SIDE = 64  # up to which pictures are drawn larger and averaged: there an edge is wide
_OVERSAMPLING = 3


def dead_leaves(n: int, channels: int, height: int, width: int, rng: np.random.Generator) -> Array:
    """(n, channels, height, width) pictures; each channel has mean 0, and all together a standard deviation of 1."""
    times = _OVERSAMPLING if max(height, width) <= _SMALL_SIDE else 1
    pictures: Array = np.empty((n, channels, height, width), np.float32)
    for picture in pictures:
        drawn = _drawn(channels, height * times, width * times, rng)
        small = drawn.reshape(channels, height, times, width, times).mean((2, 4))
        picture[:] = small * np.exp(rng.standard_normal() * _CONTRAST)
    pictures -= pictures.mean((0, 2, 3), keepdims=True)
    return pictures / max(float(pictures.std()), 1e-6)


def _drawn(channels: int, height: int, width: int, rng: np.random.Generator) -> Array:
    """One picture, (channels, height, width)."""
    longer = max(height, width)
    y, x = (np.arange(side, dtype=np.float32) / longer for side in (height, width))
    picture: Array = np.empty((channels, height, width), np.float32)
    picture[:] = _shade(channels, y, x, rng)
    for _ in range(_LEAVES):
        # Sizes by r^-3, as those of things at all distances: whatever the scale, a picture looks the same.
        ratio = (_SMALLEST / _LARGEST) ** 2
        size = _SMALLEST / np.sqrt(rng.random() * (1 - ratio) + ratio)
        centre, angle, stretch = rng.random(2), rng.random() * np.pi, np.exp(rng.standard_normal() * 0.5)
        reach = size * max(stretch, 1 / stretch) * np.sqrt(2)
        rows, columns = (
            slice(*np.searchsorted(axis, (at - reach, at + reach))) for axis, at in zip((y, x), centre, strict=True)
        )
        down, right = y[rows, None] - centre[0], x[None, columns] - centre[1]
        along = (right * np.cos(angle) + down * np.sin(angle)) * stretch
        across = (down * np.cos(angle) - right * np.sin(angle)) / stretch
        is_round = rng.random() < 0.5
        covered = along**2 + across**2 < size**2 if is_round else np.maximum(abs(along), abs(across)) < 0.9 * size
        shade = _shade(channels, y[rows], x[columns], rng)
        picture[:, rows, columns] = np.where(covered, shade, picture[:, rows, columns])
    return picture


def _shade(channels: int, y: Array, x: Array, rng: np.random.Generator) -> Array:
    """(channels, len(y), len(x)): one shade that changes a little from side to side."""
    shade = rng.standard_normal() + rng.standard_normal(channels) * _COLOUR  # (channels,)
    slope = rng.standard_normal(2) * 2 * _GRADIENT
    gradient = slope[0] * (y[:, None] - 0.5) + slope[1] * (x[None] - 0.5)
    shaded: Array = (shade[:, None, None] + gradient).astype(np.float32)
    return shaded
