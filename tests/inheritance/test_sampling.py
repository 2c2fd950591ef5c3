"""Channels stay where a value is read, or written anew, at places that the model computes."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from growing_nets import grow
from torch import nn


class Sampled(nn.Module):
    """A map is read at places that are learned of it, as deformable attention does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.places = nn.Conv2d(width, 2, 1)
        self.head = nn.Conv2d(width, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        grid = torch.tanh(self.places(x)).permute(0, 2, 3, 1)
        return self.head(F.grid_sample(x, grid, align_corners=False))


class Scattered(nn.Module):
    """Rows of features are written over others, at the places of the largest."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Linear(6, width)
        self.over = nn.Linear(6, width)
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.argsort(1)[:, :2, :1]
        new = self.over(x[:, :2])
        return self.head(torch.relu(self.stem(x).scatter(1, rows.expand_as(new), new)))


class Normed(nn.Module):
    """Learned queries pass a norm before data meet them, as in the first layer of a decoder."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(width)
        self.queries = nn.Parameter(torch.randn(1, 4, width))
        self.norm = nn.LayerNorm(width)
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(6, width), nn.Linear(6, width)
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        queries = self.norm(self.queries)
        scores = self.q(queries) @ self.k(x).transpose(1, 2) / self.q.out_features**0.5
        return self.head(scores.softmax(-1) @ self.v(x) + queries)


def test_a_map_that_is_sampled_grows(tmp_path: Path) -> None:
    grown = grow(tmp_path, Sampled(16), Sampled(8), torch.randn(2, 3, 8, 8))
    assert grown.inheritance.is_exact
    assert grown.error < 1e-5


def test_rows_that_are_written_over_others_grow(tmp_path: Path) -> None:
    grown = grow(tmp_path, Scattered(16), Scattered(8), torch.randn(2, 5, 6))
    assert grown.inheritance.is_exact
    assert grown.error < 1e-5


def test_learned_queries_behind_which_a_norm_stands_are_inherited(tmp_path: Path) -> None:
    for width in (8, 16):
        grown = grow(tmp_path, Normed(width), Normed(8), torch.randn(2, 5, 6))
        assert not grown.inheritance.missing
        assert grown.error < 1e-5
