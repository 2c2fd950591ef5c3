"""Growth that keeps outputs: the rules as they were measured on real modules, each at its own tolerance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from growing_nets import Decoder, Encoder, Plain, Recurrent, grow
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

Nets = Callable[[], tuple[nn.Module, nn.Module]]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _images(side: int = 16, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, side, side)


def _tokens() -> torch.Tensor:
    return torch.randint(0, 50, (2, 12))


def _group_norm(groups: int) -> Callable[[int], nn.Module]:
    return lambda width: nn.GroupNorm(groups, width)


def _eps(eps: float) -> Callable[[int], nn.Module]:
    return lambda width: nn.BatchNorm2d(width, eps=eps)


def _vit(width: int, heads: int, depth: int = 2) -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, depth, heads, width, 2 * width, num_classes=10)


def _shuffle(times: int) -> nn.Module:
    widths = [8 * times, 16 * times, 32 * times, 64 * times, 64 * times]
    return torchvision.models.ShuffleNetV2([2, 2, 2], widths, num_classes=10)


EXACT: dict[str, tuple[Nets, Callable[[], torch.Tensor], float]] = {
    "convolutions, twice as wide": (lambda: (Plain(16), Plain(8)), _images, 1e-6),
    "convolutions, half as wide again": (lambda: (Plain(12), Plain(8)), _images, 1e-6),
    "depthwise": (lambda: (Plain(16, groups=16), Plain(8, groups=8)), _images, 1e-6),
    "groups kept": (lambda: (Plain(16, groups=4), Plain(8, groups=4)), _images, 1e-6),
    "twice as many groups": (lambda: (Plain(16, groups=8), Plain(8, groups=4)), _images, 1e-6),
    "group norm, groups kept": (lambda: (Plain(16, _group_norm(4)), Plain(8, _group_norm(4))), _images, 1e-6),
    "group norm, twice as many": (lambda: (Plain(16, _group_norm(8)), Plain(8, _group_norm(4))), _images, 1e-6),
    "batch norm of another epsilon": (lambda: (Plain(8, _eps(1e-2)), Plain(8, _eps(1e-5))), _images, 1e-6),
    "a larger kernel": (lambda: (Plain(8, kernel=5), Plain(8)), _images, 1e-6),
    "more convolutions without a skip": (lambda: (Plain(8, depth=4), Plain(8)), _images, 1e-6),
    "LSTM": (lambda: (Recurrent(16), Recurrent()), lambda: torch.randn(2, 7, 5), 1e-6),
    "LSTM in both directions": (
        lambda: (Recurrent(16, both=True), Recurrent(both=True)),
        lambda: torch.randn(2, 7, 5),
        1e-6,
    ),
    "GRU": (lambda: (Recurrent(16, nn.GRU), Recurrent(8, nn.GRU)), lambda: torch.randn(2, 7, 5), 1e-6),
    "queries and keys twice": (lambda: (Decoder(heads=8, shared=4), Decoder()), _tokens, 1e-5),
    "queries alone twice": (lambda: (Decoder(heads=8), Decoder()), _tokens, 1e-5),
    "keys of their own for each query": (lambda: (Decoder(shared=4), Decoder()), _tokens, 1e-5),
    "one key for all, then two": (lambda: (Decoder(heads=8, shared=2), Decoder(heads=4, shared=1)), _tokens, 1e-5),
    "one head, then two, one key": (lambda: (Decoder(heads=2, shared=1), Decoder(heads=1, shared=1)), _tokens, 1e-5),
    "one head, then four, two keys": (
        lambda: (Decoder(heads=4, shared=2), Decoder(heads=1, shared=1)),
        _tokens,
        1e-5,
    ),
    "rotary heads twice as wide": (lambda: (Decoder(each=16), Decoder()), _tokens, 1e-5),
    "rotary heads three times as wide": (lambda: (Decoder(each=24), Decoder()), _tokens, 1e-5),
    "norms of queries and keys": (lambda: (Decoder(each=16, norms=True), Decoder(norms=True)), _tokens, 2e-5),
    "an untied head": (lambda: (Decoder(64, 8, 4, 8, 128), Decoder()), _tokens, 1e-5),
    "post-norm, deeper": (lambda: (Encoder(depth=4), Encoder()), _tokens, 1e-6),
    "post-norm, deeper, epsilon 1e-5": (lambda: (Encoder(depth=4, eps=1e-5), Encoder(eps=1e-5)), _tokens, 1e-5),
    "pre-norm, deeper": (lambda: (_vit(32, 4, 4), _vit(32, 4)), lambda: _images(32), 1e-6),
    "channel shuffle": (lambda: (_shuffle(2), _shuffle(1)), lambda: _images(64), 1e-6),
}


@pytest.mark.parametrize("case", EXACT)
def test_outputs_are_kept(case: str, tmp_path: Path) -> None:
    nets, example, tolerance = EXACT[case]
    grown = grow(tmp_path, *nets(), example())
    assert grown.inheritance.is_exact
    assert grown.error <= tolerance, f"{grown.error} at outputs of {grown.scale}"


WHOLE: dict[str, tuple[Nets, Callable[[], torch.Tensor]]] = {
    "ResNet, wider bottlenecks and deeper": (
        lambda: (
            ResNet(Bottleneck, [2, 2, 1, 1], num_classes=10, width_per_group=32),
            ResNet(Bottleneck, [1, 1, 1, 1], num_classes=10, width_per_group=16),
        ),
        lambda: _images(64),
    ),
    "ResNet, deeper": (
        lambda: (ResNet(BasicBlock, [2, 2, 2, 2], num_classes=10), ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)),
        lambda: _images(64),
    ),
    "ResNeXt": (
        lambda: (
            ResNet(Bottleneck, [1, 1, 1, 1], groups=8, width_per_group=16, num_classes=10),
            ResNet(Bottleneck, [1, 1, 1, 1], groups=4, width_per_group=8, num_classes=10),
        ),
        lambda: _images(64),
    ),
    "ShuffleNetV2": (lambda: (_shuffle(3), _shuffle(1)), lambda: _images(64)),
    "DenseNet": (
        lambda: (
            torchvision.models.DenseNet(16, (2, 2, 2), 32, num_classes=10),
            torchvision.models.DenseNet(8, (2, 2, 2), 16, num_classes=10),
        ),
        lambda: _images(64),
    ),
    "ViT": (lambda: (_vit(64, 8, 3), _vit(32, 4)), lambda: _images(32)),
    "ViT, wider heads": (lambda: (_vit(64, 4, 3), _vit(32, 4)), lambda: _images(32)),
    "rotary decoder with shared keys": (lambda: (Decoder(64, 8, 4, 16, 128, 3), Decoder()), _tokens),
    "BERT": (lambda: (Encoder(64, 8, 128, 4), Encoder()), _tokens),
    "LSTM": (lambda: (Recurrent(24), Recurrent()), lambda: torch.randn(2, 7, 5)),
}


@pytest.mark.parametrize("case", WHOLE)
def test_whole_networks_keep_their_outputs(case: str, tmp_path: Path) -> None:
    nets, example = WHOLE[case]
    grown = grow(tmp_path, *nets(), example())
    assert grown.inheritance.is_exact, grown.inheritance.doubts
    assert grown.error <= 1e-4, f"{grown.error} at outputs of {grown.scale}"


@pytest.mark.parametrize("tied", [False, True])
def test_numbers_that_go_with_the_width_are_made_up_for(tied: bool, tmp_path: Path) -> None:
    """Gemma multiplies embeddings by √width, and its norms scale by 1 + weight."""
    donor = Decoder(tied=tied, scaled=True)
    grown = grow(tmp_path, Decoder(64, 8, 4, 8, 128, tied=tied, scaled=True), donor, _tokens())
    assert grown.inheritance.is_exact
    assert grown.error <= 2e-6
    if tied:
        weight = donor.norm.weight.detach().numpy()
        wanted = ((1 + weight) * 2**0.5 / 2 - 1).repeat(2)
        np.testing.assert_allclose(grown.inheritance.tensors["norm.weight"].values(), wanted, rtol=1e-5)


def test_a_tied_table_scales_the_last_norm_instead_of_itself(tmp_path: Path) -> None:
    grown = grow(tmp_path, Decoder(64, 8, 4, 8, 128, tied=True), Decoder(tied=True), _tokens())
    assert grown.inheritance.is_exact
    assert grown.error <= 2e-6
    assert "× 0.5" in grown.inheritance.tensors["norm.weight"].rule


@pytest.mark.parametrize(
    ("nets", "example"),
    [
        (lambda: (Decoder(48), Decoder()), _tokens),
        (lambda: (_vit(48, 4), _vit(32, 4)), lambda: _images(32)),
    ],
    ids=["RMSNorm", "LayerNorm"],
)
def test_streams_that_cannot_be_copied_equally_often_grow_by_zeros(
    nets: Nets, example: Callable[[], torch.Tensor], tmp_path: Path
) -> None:
    """Exact but for the epsilon of the norms, which a weight cannot change."""
    grown = grow(tmp_path, *nets(), example())
    assert not grown.inheritance.is_exact
    assert any("epsilon" in tensor.doubt for tensor in grown.inheritance.tensors.values())
    assert grown.error <= 2e-4


class _Unit(nn.Module):
    """Features of length 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(5, width), nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(nn.functional.normalize(self.first(x), dim=-1))


def test_sums_over_copied_channels_are_doubted(tmp_path: Path) -> None:
    grown = grow(tmp_path, _Unit(16), _Unit(8), torch.randn(3, 5))
    assert not grown.inheritance.is_exact
    assert any("count copies" in doubt for doubt in grown.inheritance.doubts)


class _Standardised(nn.Module):
    """Convolutions of timm whose weights the model normalises, without a norm behind them."""

    def __init__(self, width: int, kind: type[nn.Module]) -> None:
        super().__init__()
        self.first, self.second = kind(3, width, 3, padding=1), kind(width, width, 3, padding=1)
        self.head = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))


def test_standardised_weights_are_not_divided(tmp_path: Path) -> None:
    from timm.layers import ScaledStdConv2d, StdConv2d

    scaled = grow(tmp_path, _Standardised(32, ScaledStdConv2d), _Standardised(16, ScaledStdConv2d), _images())
    assert scaled.inheritance.is_exact  # the gain takes what the weight cannot
    assert scaled.error <= 1e-6
    assert "× 0.7071" in scaled.inheritance.tensors["second.gain"].rule
    bare = grow(tmp_path, _Standardised(32, StdConv2d), _Standardised(16, StdConv2d), _images())
    assert not bare.inheritance.is_exact
    assert "standardises" in bare.inheritance.tensors["second.weight"].doubt


def test_what_is_not_exact_says_so(tmp_path: Path) -> None:
    smooth = Plain(8, depth=4, activation=nn.SiLU), Plain(8, activation=nn.SiLU)
    grown = grow(tmp_path, *smooth, _images())  # no convolution is the identity behind a SiLU
    assert not grown.inheritance.is_exact
    assert any("identity" in doubt for doubt in grown.inheritance.doubts)
    uneven = grow(tmp_path, Encoder(40, 4), Encoder(32, 4), _tokens())  # a post-norm stream, 32 to 40
    assert not uneven.inheritance.is_exact
    assert any("equally often" in doubt for doubt in uneven.inheritance.doubts)


def test_copies_are_told_apart_by_what_reads_them(tmp_path: Path) -> None:
    """Copies have equal weights before them and unequal ones behind, so that their gradients differ."""
    grown = grow(tmp_path, Plain(16), Plain(8), _images())
    head = grown.inheritance.tensors["head.weight"].values()
    assert abs(head[:, 0::2] - head[:, 1::2]).min() > 0
