"""Tiling, interpolation, position tables and fan-in against numpy and numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from onnx_ghn.ghn.tensor_tiling import fit_kernel, position_rows, tile
from onnx_ghn.ghn.tiling import Block, fan_in_factor, position_grid, tile_array


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((4,), (11,)),
        ((4,), (3,)),
        ((4, 3), (4, 3)),
        ((4, 3), (9, 2)),
        ((2, 3, 3, 3), (7, 10, 3, 3)),
        ((2, 3, 3, 2), (4, 6, 8, 1)),
        ((1, 1, 1), (1, 5, 7)),
        ((2, 2), (0, 3)),
    ],
)
def test_tiles_repeat_by_index(size: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    index = np.ix_(*[np.arange(w) % s for s, w in zip(size, wanted, strict=True)])
    np.testing.assert_array_equal(tile_array(values, wanted), values[index])
    np.testing.assert_array_equal(tile(torch.from_numpy(values), wanted).numpy(), values[index])


def test_block_by_hand() -> None:
    block = Block(np.array([[1, 2], [3, 4]], dtype=np.float32), (3, 5), (3, 5, 1))
    assert block.is_tiled
    expected = [[1, 2, 1, 2, 1], [3, 4, 3, 4, 3], [1, 2, 1, 2, 1]]
    np.testing.assert_array_equal(block.array()[..., 0], expected)
    whole = Block(block.values, (2, 2), (4,))
    assert not whole.is_tiled
    np.testing.assert_array_equal(whole.array(), [1, 2, 3, 4])
    assert np.shares_memory(whole.array(), whole.values)


def test_interpolation_by_hand() -> None:
    # Bilinear with half-pixel centres: 2 -> 4 samples at -0.25, 0.25, 0.75, 1.25, clamped to the ends.
    values = torch.tensor([[[0.0, 4.0]]])  # 1 × 1 × 2
    torch.testing.assert_close(fit_kernel(values, (1, 4)), torch.tensor([[[0.0, 1.0, 3.0, 4.0]]]))
    assert fit_kernel(values, (1, 2)) is values
    assert fit_kernel(torch.rand(2, 3, 4, 5, 5), (9, 7)).shape == (2, 3, 4, 9, 7)


@pytest.mark.parametrize(
    ("n", "grid"),
    [
        (1, (1, 0)),
        (2, (1, 1)),
        (3, (1, 2)),
        (8, (3, 0)),
        (49, (7, 0)),
        (50, (7, 1)),
        (51, (7, 2)),
        (52, (8, 0)),
    ],
)
def test_position_grid(n: int, grid: tuple[int, int]) -> None:
    assert position_grid(n) == grid
    side, leading = grid
    table = position_rows(torch.ones(1, 5, side, side), n, leading)
    assert table.shape == (1, n, 5)
    assert int((table == 0).all(-1).sum()) == leading


def test_position_rows_are_row_major() -> None:
    decoded = torch.arange(2 * 3 * 3).float().view(1, 2, 3, 3)  # features × rows × columns
    table = position_rows(decoded, 10, 1)
    assert table[0, 0].tolist() == [0, 0]
    assert table[0, 1 + 4].tolist() == [decoded[0, 0, 1, 1], decoded[0, 1, 1, 1]]


@pytest.mark.parametrize(
    ("shape", "position", "expected"),
    [
        ((64, 3, 7, 7), False, math.sqrt(2 / 147)),
        ((64, 1, 3, 3), False, math.sqrt(1 / 9)),  # depthwise: no ReLU follows
        ((8, 4, 1, 7), False, math.sqrt(1 / 28)),  # wider than high
        ((8, 4, 7, 1), False, math.sqrt(2 / 28)),
        ((10, 20), False, math.sqrt(2 / 20)),
        ((10, 1), False, math.sqrt(2)),
        ((6, 1, 1), False, 1.0),
        ((1, 50, 768), True, 1.0),
        ((1, 32, 11, 11), True, 1.0),
        ((1, 32, 4, 4), True, math.sqrt(2 / 512)),
        ((1, 32, 11, 11), False, math.sqrt(2 / (32 * 121))),
        ((3, 0), False, math.sqrt(2)),
    ],
)
def test_fan_in(shape: tuple[int, ...], position: bool, expected: float) -> None:
    assert fan_in_factor(shape, position=position) == pytest.approx(expected)


def test_repeated_inputs_count_as_fan_in() -> None:
    assert fan_in_factor((8, 4, 3, 3), position=False, repeats=5) == pytest.approx(math.sqrt(2 / 180))
