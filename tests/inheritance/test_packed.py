"""Queries, keys and values in one tensor and in three inherit from each other, and grow on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from growing_nets import grow
from torch import nn


class Apart(nn.Module):
    """Attention with three weights, keys first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k, self.q, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        k, q, v = (self.split(layer(x)) for layer in (self.k, self.q, self.v))
        y = torch.softmax(q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5, -1) @ v
        return self.o(y.transpose(1, 2).flatten(2))


class Packed(nn.Module):
    """Attention as timm has it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        y = torch.softmax(q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5, -1) @ v
        return self.o(y.transpose(1, 2).flatten(2))


class OfTorch(nn.Module):
    """Attention as torch has it, whose last layer is one operator with its bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Encoder(nn.Module):
    def __init__(self, kind: type[nn.Module], width: int = 16, heads: int = 2, depth: int = 2) -> None:
        super().__init__()
        self.first = nn.Linear(6, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2 * depth)])
        self.attention = nn.ModuleList([kind(width, heads) for _ in range(depth)])
        self.mlp = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)) for _ in range(depth)]
        )
        self.last = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for i, (attention, mlp) in enumerate(zip(self.attention, self.mlp, strict=True)):
            x = x + attention(self.norms[2 * i](x))
            x = x + mlp(self.norms[2 * i + 1](x))
        return self.last(x.mean(1))


KINDS = (Apart, Packed, OfTorch)
SIZES = {"wider heads": (32, 2, 2), "more heads, deeper": (32, 4, 4)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("mine", "theirs"), [(a, b) for a in KINDS for b in KINDS if a is not b])
def test_outputs_are_kept(mine: type[nn.Module], theirs: type[nn.Module], size: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    grown = grow(tmp_path, Encoder(mine, *SIZES[size]), Encoder(theirs), torch.randn(2, 5, 6))
    assert grown.inheritance.is_exact, grown.inheritance.doubts
    assert grown.inheritance.tensors.keys() == grown.names
    assert grown.error <= 1e-5


def test_each_part_is_told_and_is_the_right_rows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    donor = Encoder(Packed, depth=1)
    grown = grow(tmp_path, Encoder(Apart, depth=1), donor, torch.randn(2, 5, 6))
    weight, bias = (tensor.detach().numpy() for tensor in donor.attention[0].qkv.parameters())
    parts = [tensor for tensor in grown.inheritance.tensors.values() if tensor.rule.startswith("its ")]
    assert len(parts) == 6
    for i, part in enumerate(("queries", "keys", "values")):
        found = [tensor.values() for tensor in parts if tensor.rule == f"its {part}, copied"]
        rows = slice(16 * i, 16 * (i + 1))
        np.testing.assert_array_equal(next(values for values in found if values.ndim == 2), weight[rows])
        np.testing.assert_array_equal(next(values for values in found if values.ndim == 1), bias[rows])


def test_tensors_side_by_side_are_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    donor = Encoder(Apart, depth=1)
    grown = grow(tmp_path, Encoder(Packed, depth=1), donor, torch.randn(2, 5, 6))
    (bias,) = (t for t in grown.inheritance.tensors.values() if t.values().shape == (48,))
    assert bias.source == "attention.0.q.bias"
    assert bias.rule == "attention.0.k.bias and attention.0.v.bias beside it, copied"
    want = torch.cat([getattr(donor.attention[0], name).bias for name in "qkv"]).detach().numpy()
    np.testing.assert_array_equal(bias.values(), want)
