"""Queries, keys and values that one tensor holds head by head, in groups or in part, against every other form."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from growing_nets import grow
from test_packed import Apart, Encoder, Packed
from torch import nn


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """(B, h, N, d) each, the heads joined afterwards: (B, N, h · d)."""
    weights = torch.softmax(q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5, -1)
    return (weights @ v).transpose(1, 2).flatten(2)


class _Whole(nn.Module):
    """One weight for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def parts(self, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.o(attend(*self.parts(self.qkv(x))))


class HeadByHead(_Whole):
    """As GPT-NeoX has it."""

    def parts(self, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return y.unflatten(-1, (self.heads, -1)).transpose(1, 2).chunk(3, -1)


class HeadAxis(_Whole):
    """As BLOOM has it."""

    def parts(self, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = y.unflatten(-1, (self.heads, 3, -1))
        return tuple(y[..., i, :].transpose(1, 2) for i in range(3))


class TwoShards(_Whole):
    """As CodeGen has it: queries, values and keys of half of the heads, then those of the other half."""

    def parts(self, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        shards = y.unflatten(-1, (2, 3, self.heads // 2, -1))  # (B, N, 2, 3, h / 2, d)
        return tuple(shards[..., i, :, :].flatten(2, 3).transpose(1, 2) for i in (0, 2, 1))


class Shared(nn.Module):
    """Two queries share a key and a value; three weights, as Llama has them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.shared, self.each = heads, heads // 2, width // heads
        self.make(width)
        self.o = nn.Linear(width, width)

    def make(self, width: int) -> None:
        self.q = nn.Linear(width, width)
        self.k, self.v = (nn.Linear(width, width // 2) for _ in range(2))

    def parts(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.q(x), self.k(x), self.v(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        q, k, v = self.parts(x)
        q = q.reshape(batch, length, self.heads, self.each).transpose(1, 2)
        k, v = (y.reshape(batch, length, self.shared, self.each).transpose(1, 2) for y in (k, v))
        shape = (batch, self.shared, 2, length, self.each)
        k, v = (y[:, :, None].expand(shape).reshape(batch, self.heads, length, self.each) for y in (k, v))
        return self.o(attend(q, k, v))


class SharedSideBySide(Shared):
    """As Phi-3 and ChatGLM have it."""

    def make(self, width: int) -> None:
        self.qkv = nn.Linear(width, 2 * width)

    def parts(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        width = x.shape[-1]
        return self.qkv(x).split([width, width // 2, width // 2], -1)


class SharedInGroups(Shared):
    """As Falcon and InternLM2 have it: two queries, their key, their value."""

    def make(self, width: int) -> None:
        self.qkv = nn.Linear(width, 2 * width)

    def parts(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        groups = self.qkv(x).unflatten(-1, (self.shared, 4, self.each))
        return groups[..., :2, :], groups[..., 2, :], groups[..., 3, :]


class KeysBesideValues(Shared):
    """As encoders with fewer keys than queries have it: one weight for keys and values."""

    def make(self, width: int) -> None:
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, width)

    def parts(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.q(x), *self.kv(x).chunk(2, -1)


EVEN = (Apart, Packed, HeadByHead, HeadAxis, TwoShards)
SHARED = (Shared, SharedSideBySide, SharedInGroups, KeysBesideValues)
PAIRS = [*itertools.product(EVEN, EVEN[2:]), *itertools.product(EVEN[2:], EVEN[:2]), *itertools.product(SHARED, SHARED)]


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_outputs_are_kept(mine: type[nn.Module], theirs: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = ((32, 8, 2), (16, 4)) if mine in SHARED else ((32, 4, 2), (16, 2))
    grown = grow(tmp_path, Encoder(mine, *sizes[0]), Encoder(theirs, *sizes[1], depth=1), torch.randn(2, 5, 6))
    assert grown.inheritance.is_exact, grown.inheritance.doubts
    assert grown.inheritance.tensors.keys() == grown.names
    assert grown.error <= 1e-5


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("theirs", [Apart, Packed, HeadByHead])
@pytest.mark.parametrize("mine", [Apart, Packed, HeadAxis])
def test_a_single_head_is_one_too(mine: type[nn.Module], theirs: type[nn.Module], heads: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    donor = Encoder(theirs, 8, 1, depth=1)
    grown = grow(tmp_path, Encoder(mine, 16, heads, depth=1), donor, torch.randn(2, 5, 6))
    assert grown.inheritance.is_exact, grown.inheritance.doubts
    assert grown.error <= 1e-5


@pytest.mark.parametrize("width", [16, 32])
def test_keys_of_their_own_may_be_wider_too(width: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    heads = width // 4  # as wide as before, and twice as many; or as many as before, and all wider
    for count in {heads, 4}:
        grown = grow(tmp_path, Encoder(Apart, width, count), Encoder(Shared, 16, 4), torch.randn(2, 5, 6))
        assert grown.inheritance.is_exact, grown.inheritance.doubts
        assert grown.error <= 1e-5


def test_heads_that_cannot_share_a_key_are_doubted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    grown = grow(tmp_path, Encoder(Shared, 32, 4, depth=1), Encoder(Apart, 16, 4, depth=1), torch.randn(2, 5, 6))
    assert grown.error > 1e-3
    doubts = grown.inheritance.doubts
    assert "2 heads multiply other dimensions of queries and keys than the donor's" in doubts


def test_each_part_is_the_right_rows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    donor = Encoder(SharedInGroups, 16, 4, depth=1)
    grown = grow(tmp_path, Encoder(Shared, 16, 4, depth=1), donor, torch.randn(2, 5, 6))
    weight, bias = (tensor.detach().numpy() for tensor in donor.attention[0].qkv.parameters())
    rows = np.arange(32).reshape(2, 4, 4)  # (groups, two queries and a key and a value, width of a head)
    wanted = {"queries": rows[:, :2].reshape(-1), "keys": rows[:, 2].reshape(-1), "values": rows[:, 3].reshape(-1)}
    parts = [tensor for tensor in grown.inheritance.tensors.values() if tensor.rule.startswith("its ")]
    assert len(parts) == 6
    for what, index in wanted.items():
        found = [tensor.values() for tensor in parts if tensor.rule == f"its {what}, copied"]
        np.testing.assert_array_equal(next(values for values in found if values.ndim == 2), weight[index])
        np.testing.assert_array_equal(next(values for values in found if values.ndim == 1), bias[index])
