"""Changes of training pictures that keep their class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["crops_and_flips"]


def crops_and_flips(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each picture of (B, C, H, W) by up to an eighth of its side, and mirror every second or so."""
    n, _, height, width = batch.shape
    most = height // 8
    corners = torch.randint(0, 2 * most + 1, (n, 2), generator=generator)
    mirrored = torch.rand(n, generator=generator) < 0.5
    rows = corners[:, :1] + torch.arange(height)  # (B, H)
    columns = corners[:, 1:] + torch.arange(width)  # (B, W)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    rows, columns = rows.to(batch.device), columns.to(batch.device)
    padded = F.pad(batch, (most, most, most, most)).permute(0, 2, 3, 1)  # (B, H + 2m, W + 2m, C)
    which = torch.arange(n, device=batch.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
