"""Shape indices against the published lookup rules, written out anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnx_ghn.ghn.shape_encoder import ShapeEncoder
from onnx_ghn.ghn.shape_indices import four_axes


def _published_index(size: int, values: list[int], channels: bool) -> int:
    """4-7 channels are 8, a 2-wide kernel is 3, else the nearest, else the last."""
    if channels and 4 <= size < 8:
        return values.index(8)
    if not channels and size == 2:
        return values.index(3)
    if size > values[-1]:
        return len(values) - 1
    return min(range(len(values)), key=lambda i: (abs(values[i] - size), values[i]))


@pytest.mark.parametrize(("classes", "kernel"), [(10, 11), (1000, 16), (5, 7), (9000, 16)])
def test_indices_follow_the_published_rule(classes: int, kernel: int) -> None:
    channels = sorted({1, 3, classes} | set(range(8, 64, 8)) | set(range(64, 4096, 16)) | set(range(4096, 8193, 32)))
    kernels = sorted(set(range(1, max(12, kernel), 2)) | {14, 16})
    encoder = ShapeEncoder(16, classes, kernel)
    assert encoder.embed_channel.num_embeddings == len(channels) + 1
    assert encoder.embed_spatial.num_embeddings == len(kernels) + 1
    rng = np.random.default_rng(0)
    sizes = [*range(1, 80), *rng.integers(80, 12_000, 300).tolist()]
    kernel_sizes = rng.integers(1, 20, (len(sizes), 2)).tolist()
    shapes = [(a, b, h, w) for a, b, (h, w) in zip(sizes, sizes[::-1], kernel_sizes, strict=True)]
    expected = [
        [_published_index(s, channels if axis < 2 else kernels, axis < 2) for axis, s in enumerate(shape)]
        for shape in shapes
    ]
    np.testing.assert_array_equal(encoder.indices(shapes), expected)
    np.testing.assert_array_equal(encoder.indices(shapes), expected)  # once more, from the cache


def test_published_table_sizes() -> None:
    encoder = ShapeEncoder(64, 1000, 16)  # as in the GHN-3 checkpoints
    assert encoder.embed_channel.weight.shape == (392, 16)
    assert encoder.embed_spatial.weight.shape == (11, 16)


def test_no_shape_gives_the_last_rows() -> None:
    encoder = ShapeEncoder(16, 10, 11)
    last = [encoder.embed_channel.num_embeddings - 1] * 2 + [encoder.embed_spatial.num_embeddings - 1] * 2
    np.testing.assert_array_equal(encoder.indices([None, (8,)])[0], last)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((), (1, 1, 1, 1)),
        ((9,), (9, 1, 1, 1)),
        ((9, 4), (9, 4, 1, 1)),
        ((1, 197, 768), (1, 768, 14, 14)),
        ((1, 198, 768), (1, 768, 14, 14)),
        ((1, 1, 768), (1, 1, 768, 1)),
        ((96, 1, 1), (96, 1, 1, 1)),
        ((2, 3, 4, 5, 6), (2, 3, 20, 6)),
    ],
)
def test_four_axes(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    assert four_axes(shape) == axes


def test_parts_are_out_in_height_width() -> None:
    encoder = ShapeEncoder(16, 10, 11)
    index = encoder.indices([(8, 16, 3, 5)])
    (a, b, c, d), (row,) = index[0], encoder(torch.from_numpy(index))
    parts = [encoder.embed_channel.weight[a], encoder.embed_channel.weight[b]]
    parts += [encoder.embed_spatial.weight[c], encoder.embed_spatial.weight[d]]
    torch.testing.assert_close(row, torch.cat(parts))
