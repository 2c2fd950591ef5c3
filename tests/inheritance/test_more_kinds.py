"""Layers beside the common ones: flattened maps, norms over maps, attention in parts, states, both directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from growing_nets import Recurrent, exported, grow, trained
from torch import nn

from onnx_ghn.graph.builder import read_graph
from onnx_ghn.inheritance.donor import open_donor
from onnx_ghn.inheritance.inheriting import Inherited, inherit
from onnx_ghn.inheritance.transfer import places
from onnx_ghn.passes import open_model


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def images(side: int = 8) -> torch.Tensor:
    return torch.randn(2, 3, side, side)


def flattened(width: int, side: int = 4) -> nn.Module:
    """The map of the first convolution is read place by place, as VGG and AlexNet read theirs."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * side**2, 2 * width),
        nn.ReLU(),
        nn.Linear(2 * width, 5),
    )


def normed_flat(width: int) -> nn.Module:
    """A batch norm of the flattened map, whose scales are those of channels at places."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2), nn.Flatten(), nn.BatchNorm1d(9 * width), nn.ReLU(), nn.Linear(9 * width, 5)
    )


def unshuffled(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.PixelUnshuffle(2), nn.Conv2d(4 * width, 5, 1))


def normed(width: int, side: int = 8) -> nn.Module:
    """Layer norms over channels and maps, and over maps alone."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.LayerNorm([width, side, side]),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.LayerNorm([side, side]),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 5),
    )


def without_scale(epsilon: float) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, epsilon, affine=False), nn.ReLU(), nn.Conv2d(8, 5, 1))


class Cross(nn.Module):
    """Attention to another sequence: three weights, whose biases are one tensor."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(6, width), nn.Linear(width, 3)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True, kdim=9, vdim=9)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        return self.leave(x + self.attention(x, y, y, need_weights=False)[0])


class Started(nn.Module):
    """An LSTM in both directions that begins with states of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden, self.cell = (nn.Parameter(torch.randn(2, 1, width)) for _ in range(2))
        self.layer = nn.LSTM(5, width, batch_first=True, bidirectional=True)
        self.leave = nn.Linear(2 * width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = tuple(state.expand(-1, x.shape[0], -1).contiguous() for state in (self.hidden, self.cell))
        outputs: torch.Tensor = self.leave(self.layer(x, first)[0])
        return outputs


class Multiplied(nn.Module):
    """A depthwise convolution with two outputs for each input, whose weight is stored as Keras does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, width, 3), nn.Conv2d(2 * width, 4, 1)
        self.weight = nn.Parameter(torch.randn(3, 3, width, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x).relu()
        weight = self.weight.permute(2, 3, 0, 1).reshape(-1, 1, 3, 3)
        out: torch.Tensor = self.leave(nn.functional.conv2d(x, weight, groups=x.shape[1]).relu())
        return out


class Shared(nn.Module):
    """Attention by Einsum, whose keys and values are shared by two queries each: heads have an axis, as in Keras."""

    def __init__(self, heads: int, shared: int) -> None:
        super().__init__()
        self.times = heads // shared
        self.q = nn.Parameter(torch.randn(6, heads, 4) / 2)
        self.k, self.v = (nn.Parameter(torch.randn(6, shared, 4) / 2) for _ in range(2))
        self.o = nn.Parameter(torch.randn(heads, 4, 6) / 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (torch.einsum("bti,ihd->bthd", x, weight) for weight in (self.q, self.k, self.v))
        k, v = (each.repeat_interleave(self.times, 2) for each in (k, v))
        scores = torch.einsum("bthd,bshd->bhts", q, k).softmax(-1)
        return torch.einsum("bthd,hdo->bto", torch.einsum("bhts,bshd->bthd", scores, v), self.o)


class Joined(nn.Module):
    """Features beside inputs that nothing has read before, as in a NeRF: its views, after its positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(6, width), nn.Linear(width + 7, 4)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.leave(torch.cat([self.enter(x).relu(), y], -1))
        return out


class Features(nn.Module):
    """Random Fourier features."""

    def __init__(self, n_bands: int) -> None:
        super().__init__()
        self.register_buffer("bands", torch.randn(2, n_bands))
        self.leave = nn.Linear(2 * n_bands, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        angles = x @ self.bands
        out: torch.Tensor = self.leave(torch.cat([angles.sin(), angles.cos()], -1))
        return out


class Zeroed(nn.Module):
    """Attention whose queries are multiplied by a number, to which 0 is added, as paddle2onnx writes it."""

    def __init__(self, each: int) -> None:
        super().__init__()
        self.each = each
        self.q, self.k, self.v = (nn.Linear(6, 2 * each) for _ in range(3))
        self.leave = nn.Linear(2 * each, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, self.each)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        scores = (q * self.each**-0.5 + 0.0) @ k.transpose(-1, -2)
        out: torch.Tensor = self.leave((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return out


class Length(nn.Module):
    """An RMS norm as F.normalize gives it: of maps, whose scale comes first, or of features, whose scale comes last."""

    def __init__(self, width: int, *, of_maps: bool, times: float | None = None) -> None:
        super().__init__()
        self.axis, self.times = 1 if of_maps else -1, width**0.5 if times is None else times
        self.scale = nn.Parameter(torch.rand(width, 1, 1) + 0.5 if of_maps else torch.rand(width) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.normalize(x, dim=self.axis)
        return x * self.scale * self.times if self.axis == 1 else x * self.times * self.scale


def by_length(width: int, *, of_maps: bool, times: float | None = None) -> nn.Module:
    norm = Length(width, of_maps=of_maps, times=times)
    if of_maps:
        return nn.Sequential(nn.Conv2d(3, width, 3), norm, nn.SiLU(), nn.Conv2d(width, 5, 1))
    return nn.Sequential(nn.Linear(8, width), norm, nn.SiLU(), nn.Linear(width, 5))


Nets = Callable[[], tuple[nn.Module, nn.Module]]
EXACT: dict[str, tuple[Nets, Callable[[], tuple[torch.Tensor, ...]]]] = {
    "a flattened map, twice as wide": (lambda: (flattened(16), flattened(8)), lambda: (images(),)),
    "a flattened map, half as wide again": (lambda: (flattened(12), flattened(8)), lambda: (images(),)),
    "a norm of a flattened map": (lambda: (normed_flat(16), normed_flat(8)), lambda: (images(),)),
    "places become channels": (lambda: (unshuffled(16), unshuffled(8)), lambda: (images(),)),
    "layer norms over maps": (lambda: (normed(16), normed(8)), lambda: (images(),)),
    "a larger epsilon without a scale": (lambda: (without_scale(0.1), without_scale(1e-5)), lambda: (images(),)),
    "a smaller epsilon without a scale": (lambda: (without_scale(1e-5), without_scale(0.1)), lambda: (images(),)),
    "attention in parts": (lambda: (Cross(32, 4), Cross(16, 2)), lambda: (torch.randn(2, 5, 6), torch.randn(2, 7, 9))),
    "inputs × multiplier": (lambda: (Multiplied(16), Multiplied(8)), lambda: (images(),)),
    "inputs × multiplier, half as wide again": (lambda: (Multiplied(12), Multiplied(8)), lambda: (images(),)),
    "shared keys by Einsum, all twice": (lambda: (Shared(8, 4), Shared(4, 2)), lambda: (torch.randn(2, 5, 6),)),
    "shared keys by Einsum, queries alone": (lambda: (Shared(8, 2), Shared(4, 2)), lambda: (torch.randn(2, 5, 6),)),
    "inputs joined to features": (lambda: (Joined(16), Joined(8)), lambda: (torch.randn(3, 6), torch.randn(3, 7))),
    "maps, normed by length": (lambda: (by_length(16, of_maps=True), by_length(8, of_maps=True)), lambda: (images(),)),
    "features, normed by length": (
        lambda: (by_length(16, of_maps=False), by_length(8, of_maps=False)),
        lambda: (images(),),
    ),
    "queries to which zero is added": (lambda: (Zeroed(16), Zeroed(8)), lambda: (torch.randn(2, 7, 6),)),
    "states that are learned": (lambda: (Started(16), Started(8)), lambda: (torch.randn(2, 6, 5),)),
}


@pytest.mark.parametrize("case", EXACT)
def test_outputs_are_kept(case: str, tmp_path: Path) -> None:
    nets, examples = EXACT[case]
    grown = grow(tmp_path, *nets(), *examples())
    assert grown.inheritance.is_exact
    assert grown.inheritance.tensors.keys() == grown.names
    assert grown.error <= 2e-6


def test_a_norm_by_length_alone_counts_copies(tmp_path: Path) -> None:
    grown = grow(tmp_path, *(by_length(width, of_maps=True, times=3.0) for width in (16, 8)), images())
    assert not grown.inheritance.is_exact
    assert grown.error > 0.05


def test_frequencies_are_not_stretched(tmp_path: Path) -> None:
    """Four became six by repetition, in a model that has six of its own."""
    same = grow(tmp_path, Features(4), Features(4), torch.randn(3, 2), fresh=False)
    assert same.inheritance.tensors.keys() == same.names
    more = grow(tmp_path, Features(6), Features(4), torch.randn(3, 2), fresh=False)
    assert more.names - more.inheritance.tensors.keys() == {"bands"}
    assert not more.inheritance.is_exact


def test_a_norm_over_maps_with_uneven_copies_is_doubted(tmp_path: Path) -> None:
    grown = grow(tmp_path, normed(12), normed(8), images())
    assert grown.error > 1e-5
    assert any("not copied equally often" in doubt for doubt in grown.inheritance.doubts)


def test_places_of_a_norm_over_maps_are_interpolated() -> None:
    """On a map of twice the side: a row of four is the middle of each pair of pixels, by hand."""
    donor, recipient = np.arange(4.0), np.array([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    np.testing.assert_allclose(places(0, 8)(donor), recipient)
    found = inherit_on_other_sides(normed(8, 16), normed(8, 8))
    for name in ("1.weight", "1.bias", "4.weight", "4.bias"):
        assert "positions 8 → 16 interpolated" in found[name].rule
        assert "no table of another length is exact" in found[name].doubt


def test_a_flattened_map_of_another_size_is_not_called_exact() -> None:
    """Each place of the recipient's map of 8 × 8 reads a fourth of what one of the donor's 4 × 4 places gave."""
    torch.manual_seed(0)
    donor = flattened(8, 4)
    found = inherit_on_other_sides(flattened(8, 8), donor)["3.weight"]
    assert found.doubt == "the map that it reads has 64 places, and the donor's 16"
    theirs = donor[3].weight.detach().numpy().reshape(16, 8, 16)
    np.testing.assert_allclose(found.values().reshape(16, 8, 16, 4).sum(-1), theirs, rtol=1e-6)
    shares = found.values().reshape(16, 8, 16, 4)
    np.testing.assert_array_equal(shares[..., :1].repeat(4, -1), shares)


def inherit_on_other_sides(recipient: nn.Module, donor: nn.Module) -> Mapping[str, Inherited]:
    """What a recipient on images of 16 pixels inherits from a donor on images of 8."""
    opened = open_model(exported(recipient, images(16)))
    graph, flat = read_graph(opened.model, opened.stored, "onnx")
    found = inherit(opened, flat, graph, [open_donor(exported(trained(donor), images(8)))])
    assert not found.is_exact
    return found.tensors


def test_a_weight_that_is_read_transposed_too_is_not_widened(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.enter, self.leave = nn.Linear(6, 10), nn.Linear(10, 4)
            self.weight = nn.Parameter(torch.randn(width, 10))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = (self.enter(x) @ self.weight.t()).relu()
            out: torch.Tensor = self.leave(hidden @ self.weight)
            return out

    grown = grow(tmp_path, Tied(16), Tied(8), torch.randn(3, 6))
    assert "read transposed" in grown.inheritance.kept["weight"]
    same = grow(tmp_path, Tied(8), Tied(8), torch.randn(3, 6))
    assert same.inheritance.is_exact
    assert same.error == 0


def test_both_directions_take_the_forward_one_whole(tmp_path: Path) -> None:
    """No direction mixes tensors of one with its own of the other."""
    both = grow(tmp_path, Recurrent(8, both=True), Recurrent(8), torch.randn(2, 7, 5), fresh=False).inheritance
    names = {name for name in both.tensors if "_l0" in name}
    assert names == {f"layers.{kind}_{part}_l0" for kind in ("weight", "bias") for part in ("ih", "hh")}
    assert all(both.tensors[name].source == name for name in names)


class Placed(nn.Module):
    """A head with a bias for each token, as jax2onnx writes haiku's."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(20, 16), nn.Linear(16, classes, bias=False)
        self.places = nn.Parameter(torch.randn(1, 8, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(x).relu()) + self.places


def test_classes_whose_bias_stands_once_for_each_token_are_classes(tmp_path: Path) -> None:
    tokens = torch.arange(8)[None]
    grown = grow(tmp_path, Placed(7), Placed(12), tokens)
    assert {tensor.source for tensor in grown.inheritance.tensors.values()} == {"table.weight"}
    assert len(grown.inheritance.kept) == 2
    assert "a classifier of 7 outputs, and the donor's has 12" in str(grown.inheritance.kept)
    same = grow(tmp_path, Placed(12), Placed(12), tokens)
    assert same.error < 1e-6
