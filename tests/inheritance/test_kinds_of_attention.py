"""Attention as language models differ in it: numbers that scale it, norms of queries, positions, ends of branches."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from growing_nets import Grown, RMSNorm, grow
from torch import nn


class Attention(nn.Module):
    """Attention of several kinds.

    Args:
        width: of the stream.
        heads: how many, each of them `each` wide.
        scale: of the scores; None for 1 / √each.
        norm: of the queries and keys of each head.
        turned: how many dimensions of a head are turned by positions.
        paired: a pair that is turned stands side by side (GPT-J), not half of these dimensions apart.
        slopes: add to scores what goes with the head and the distance (ALiBi).
        shared: one key and one value for all heads.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        each: int,
        scale: float | None = None,
        norm: type[nn.Module] | None = None,
        turned: int = 0,
        paired: bool = False,
        slopes: bool = False,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.each, self.turned, self.paired = heads, each, turned, paired
        self.scale = each**-0.5 if scale is None else scale
        self.slopes, self.n_keys = slopes, 1 if shared else heads
        self.q = nn.Linear(width, heads * each)
        self.k, self.v = (nn.Linear(width, self.n_keys * each) for _ in range(2))
        self.o = nn.Linear(heads * each, width)
        self.norms = nn.ModuleList([norm(each), norm(each)]) if norm is not None else None

    def turn(self, x: torch.Tensor) -> torch.Tensor:
        part, rest = x[..., : self.turned], x[..., self.turned :]
        half = self.turned // 2
        angles = torch.arange(x.shape[2])[:, None] * 100.0 ** -(torch.arange(half) / half)  # (N, half)
        if self.paired:
            angles = torch.stack([angles, angles], -1).flatten(-2)
            other = torch.stack([-part[..., 1::2], part[..., ::2]], -1).flatten(-2)
        else:
            angles = angles.repeat(1, 2)
            other = torch.cat([-part[..., half:], part[..., :half]], -1)
        return torch.cat([part * angles.cos() + other * angles.sin(), rest], -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (n, self.each)).transpose(1, 2)
            for layer, n in ((self.q, self.heads), (self.k, self.n_keys), (self.v, self.n_keys))
        )
        if self.norms is not None:
            q, k = self.norms[0](q), self.norms[1](k)
        if self.turned:
            q, k = self.turn(q), self.turn(k)
        scores = q @ k.transpose(-2, -1)
        scores = scores * self.scale if self.scale != 1 else scores
        if self.slopes:
            slopes = 2.0 ** -(8 * (1 + torch.arange(self.heads)) / self.heads)
            scores = scores + slopes[:, None, None] * torch.arange(x.shape[1])
        return self.o((torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(2))


class Model(nn.Module):
    """Blocks of attention and a feed-forward branch.

    Args:
        form: "one by one"; "sandwich", whose branches end in norms of scale 1 + weight; "side by side", where both
            branches read one norm or, with "side by side, apart", each its own.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        each: int,
        form: str = "one by one",
        depth: int = 1,
        offset: float = 0.0,
        **kind: object,
    ) -> None:
        super().__init__()
        self.form = form
        self.first, self.last = nn.Linear(6, width), nn.Linear(width, 3)
        self.attention = nn.ModuleList([Attention(width, heads, each, **kind) for _ in range(depth)])  # type: ignore[arg-type]
        self.up = nn.ModuleList([nn.Linear(width, 2 * width) for _ in range(depth)])
        self.down = nn.ModuleList([nn.Linear(2 * width, width) for _ in range(depth)])
        self.norms = nn.ModuleList([RMSNorm(width, offset=offset) for _ in range(2 * depth)])
        self.ends = nn.ModuleList([RMSNorm(width, offset=1.0) for _ in range(2 * depth)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for i, (attention, up, down) in enumerate(zip(self.attention, self.up, self.down, strict=True)):
            first, second, ends = self.norms[2 * i], self.norms[2 * i + 1], self.ends[2 * i : 2 * i + 2]
            if self.form.startswith("side by side"):
                y = first(x)
                z = second(x) if self.form.endswith("apart") else y
                x = attention(y) + down(F.gelu(up(z))) + x
            elif self.form == "sandwich":
                x = x + ends[0](attention(first(x)))
                x = x + ends[1](down(F.gelu(up(second(x)))))
            else:
                x = x + attention(first(x))
                x = x + down(F.gelu(up(second(x))))
        return self.last(x.mean(1))


def _grown(tmp_path: Path, recipient: nn.Module, donor: nn.Module) -> Grown:
    torch.manual_seed(1)
    for layer in [*recipient.modules(), *donor.modules()]:
        if isinstance(layer, nn.Linear):  # scores that are far from uniform
            nn.init.normal_(layer.weight, std=1.5 / math.sqrt(layer.in_features))
    return grow(tmp_path, recipient, donor, torch.randn(2, 5, 6))


def _check(grown: Grown) -> None:
    assert grown.inheritance.is_exact, grown.inheritance.doubts
    assert grown.error <= 1e-5


WIDER = {
    "the usual scale": {},
    "one scale for all widths": {"scale": 0.25},
    "no scale": {"scale": 1.0},
    "norms of heads": {"norm": RMSNorm},
    "norms of heads with a mean": {"norm": nn.LayerNorm},
    "norms with a mean, some dimensions turned": {"norm": nn.LayerNorm, "scale": 0.25, "turned": 0.5},
    "norms, some dimensions turned": {"norm": RMSNorm, "turned": 0.5},
    "turned in halves": {"turned": 1.0},
    "turned in pairs": {"turned": 1.0, "paired": True},
    "some dimensions turned in pairs": {"turned": 0.5, "paired": True},
    "one key for all": {"shared": True},
    "numbers that go with heads": {"slopes": True},
}


def _kind(kind: dict[str, object], each: int) -> dict[str, object]:
    """Its arguments; how many dimensions are turned is said as a share of a head."""
    return {**kind, "turned": int(float(str(kind.get("turned", 0))) * each)}


@pytest.mark.parametrize("size", [(32, 2, 16), (32, 4, 8)], ids=["wider heads", "more heads"])
@pytest.mark.parametrize("kind", WIDER)
def test_wider_streams_keep_outputs(kind: str, size: tuple[int, int, int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    mine, theirs = _kind(WIDER[kind], size[2]), _kind(WIDER[kind], 8)
    grown = _grown(tmp_path, Model(*size, **mine), Model(16, 2, 8, **theirs))
    if "slopes" in mine and size[1] > 2:  # the slopes of four heads are not those of two
        assert grown.error > 1e-3
        assert any("(ALiBi)" in doubt for doubt in grown.inheritance.doubts)
    else:
        _check(grown)


@pytest.mark.parametrize("norm", [None, nn.LayerNorm])
def test_queries_make_up_for_another_scale(norm: type[nn.Module] | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    grown = _grown(tmp_path, Model(16, 2, 8, norm=norm), Model(16, 2, 8, norm=norm, scale=1.0))
    _check(grown)
    scaled = [tensor.name for tensor in grown.inheritance.tensors.values() if f"queries × {8**0.5:.4g}" in tensor.rule]
    whose = "q" if norm is None else "norms.0"
    assert sorted(scaled) == [f"attention.0.{whose}.bias", f"attention.0.{whose}.weight"]


@pytest.mark.parametrize("form", ["one by one", "sandwich", "side by side", "side by side, apart"])
def test_deeper_networks_keep_outputs(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    grown = _grown(tmp_path, Model(16, 2, 8, form, depth=3), Model(16, 2, 8, form, depth=2))
    _check(grown)
    unused = set() if form == "sandwich" else {name for name in grown.names if "ends" in name}
    assert grown.inheritance.tensors.keys() == grown.names - unused


@pytest.mark.parametrize(("mine", "theirs"), [(0.0, 1.0), (1.0, 0.0)])
def test_norms_of_one_plus_a_weight_and_of_a_weight(mine: float, theirs: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    donor = Model(16, 2, 8, offset=theirs)
    grown = _grown(tmp_path, Model(32, 4, 8, offset=mine), donor)
    _check(grown)
    found = grown.inheritance.tensors["norms.0.weight"].values()
    weight = donor.norms[0].weight.detach().numpy()
    np.testing.assert_allclose(np.sort(found), np.sort(weight.repeat(2) + theirs - mine), rtol=1e-6)


def test_pieces_of_no_width_are_no_channels(tmp_path: Path) -> None:
    """Phi-3 turns whole heads, and joins them with the empty rest."""
    torch.manual_seed(0)
    grown = _grown(tmp_path, Model(32, 4, 8, turned=8), Model(16, 2, 8, turned=8))
    assert not grown.inheritance.trace.unknown
    _check(grown)
