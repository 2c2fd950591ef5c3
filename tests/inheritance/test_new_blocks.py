"""Blocks that the donor has not, behind blocks of an unusual kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from growing_nets import Decoder, grow
from torch import nn


class _Normed(nn.Module):
    """A norm of the input, post-norm blocks, and a head."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.first = nn.LayerNorm(8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(depth))
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(x + torch.relu(layer(x)))
        return self.head(x)


def test_a_block_of_norms_alone_gives_its_scale_to_the_last_new_norm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    grown = grow(tmp_path, _Normed(2), _Normed(0), torch.randn(4, 8))
    tensors = grown.inheritance.tensors
    assert tensors["norms.1.weight"].source == "first.weight"
    np.testing.assert_array_equal(tensors["first.weight"].values(), np.ones(8, np.float32))
    np.testing.assert_array_equal(tensors["first.bias"].values(), np.zeros(8, np.float32))
    assert grown.error < 1e-4  # each of three norms adds its epsilon, 1e-5


@pytest.mark.parametrize(
    ("donor_depth", "old"), [(2, {0: 0, 2: 1}), (3, {0: 0, 1: 1, 2: 2}), (1, {0: 0})], ids=["two", "three", "one"]
)
def test_new_layers_are_whole_and_stand_behind_what_they_follow(
    tmp_path: Path, donor_depth: int, old: dict[int, int]
) -> None:
    """Attention and MLP of a layer are both the donor's, or both new."""
    torch.manual_seed(0)
    grown = grow(tmp_path, Decoder(depth=4), Decoder(depth=donor_depth), torch.randint(0, 50, (2, 12)))
    outputs = {
        name: tensor
        for name, tensor in grown.inheritance.tensors.items()
        if name.endswith(("attention.o.weight", "down.weight"))
    }
    assert len(outputs) == 8
    for name, tensor in outputs.items():
        layer = int(name.split(".")[1])
        if layer in old:
            assert tensor.source == name.replace(f"blocks.{layer}.", f"blocks.{old[layer]}.")
        else:
            assert not np.any(tensor.values())
