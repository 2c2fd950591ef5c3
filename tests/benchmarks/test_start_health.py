"""Figures of starts, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from racing.health import effective_rank, health
from torch import Tensor, nn
from torch.nn import functional as F


def test_effective_ranks_of_known_spectra() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(16, 16, generator=generator))[0] for _ in range(2))
    assert effective_rank(left) == pytest.approx(1.0, abs=1e-5)  # all singular values are one
    assert effective_rank(left[:, :1] @ right[:1]) == pytest.approx(1 / 16, abs=1e-4)
    two = left @ torch.diag(torch.tensor([3.0, 1.0] + [0.0] * 14)) @ right
    assert effective_rank(two) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)) / 16, abs=1e-4)
    assert effective_rank(torch.zeros(8, 8)) == 0.0


class Attending(nn.Module):
    """Attention whose scores are the inputs' products, by either of torch's forms, and a head over the places."""

    def __init__(self, *, fused: bool, causal: bool = False) -> None:
        super().__init__()
        self.fused, self.causal = fused, causal
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, heads, N, 4) -> (B, heads, N, 3)."""
        if self.fused:
            mixed = F.scaled_dot_product_attention(x, x, x, is_causal=self.causal)
        else:
            mixed = F.softmax(x @ x.transpose(-2, -1) / 2, dim=-1) @ x
        answer: Tensor = self.head(mixed)
        return answer


@pytest.mark.parametrize("fused", [False, True])
def test_attention_to_everything_alike_has_all_the_entropy_there_is(fused: bool) -> None:
    even = health(Attending(fused=fused), torch.ones(2, 1, 8, 4))
    assert even.entropy == pytest.approx(1.0, abs=1e-5)
    assert even.cosine == pytest.approx(1.0, abs=1e-5)  # the samples are equal
    sharp = health(Attending(fused=fused), 100 * torch.eye(4).repeat(2, 1, 1, 1))  # each place sees itself alone
    assert sharp.entropy == pytest.approx(0.0, abs=1e-5)


def test_a_causal_mask_counts_the_places_that_are_seen() -> None:
    assert health(Attending(fused=True, causal=True), torch.ones(2, 1, 8, 4)).entropy == pytest.approx(1.0, abs=1e-5)


def test_samples_at_right_angles_and_the_scale_of_outputs() -> None:
    net = nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(2, 5, bias=False))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.eval()
    inputs = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])  # normalised already
    found = health(net, inputs)
    assert found.cosine == pytest.approx((4 * -1 + 8 * 0) / 12, abs=1e-4)  # opposite ones, and right angles
    expected = float((inputs @ before["1.weight"].T).square().mean().sqrt())
    assert found.scale == pytest.approx(expected, rel=1e-4)
    assert math.isnan(found.entropy)
    assert math.isnan(found.rank)  # too small a matrix to speak of
    assert not net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
