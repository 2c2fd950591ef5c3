"""From a decoded block to a tensor of any shape, differentiably: what `tiling` and `resizing` do for arrays."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

__all__ = ["fit_kernel", "position_rows", "tile"]


def tile(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`tile_array` for torch, differentiable. A view where nothing repeats."""
    if 0 in shape:
        return values.new_zeros(shape)
    repeats = [math.ceil(wanted / size) for wanted, size in zip(shape, values.shape, strict=True)]
    if max(repeats, default=1) > 1:
        values = values.repeat(repeats)
    return values[tuple(slice(wanted) for wanted in shape)]


def fit_kernel(values: Tensor, kernel: tuple[int, int]) -> Tensor:
    """(..., h, w) interpolated bilinearly to a kernel that exceeds max_shape, each axis on its own.

    As GHN-3 does (SamsungSAILMontreal/ghn3, ghn3/nn.py, `ConvDecoder3.forward`, align_corners off).
    """
    if tuple(values.shape[-2:]) == kernel:
        return values
    planes = values.reshape(1, -1, *values.shape[-2:])
    resized: Tensor = F.interpolate(planes, kernel, mode="bilinear", align_corners=False)
    return resized.view(*values.shape[:-2], *kernel)


def position_rows(grid: Tensor, n_positions: int, leading: int) -> Tensor:
    """(1, D, s, s) decoded grid -> (1, N, D) position table.

    GHN-3 puts a row of random numbers before the first position (`GHN3._tile_params`); a prediction has
    to be repeatable, so here the leading rows are zero.
    """
    rows = grid.flatten(2).transpose(1, 2)  # (1, D, s * s) -> (1, s * s, D)
    return F.pad(rows, (0, 0, leading, 0))[:, :n_positions]
