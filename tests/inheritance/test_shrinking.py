"""Recipients that are smaller than their donors, or of another kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from growing_nets import Decoder, Encoder, Plain, grow, trained
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_one_choice_of_channels_for_all_that_are_tied(tmp_path: Path) -> None:
    """Selecting channels of a network equals selecting them in each tensor by the same index."""
    donor = trained(Plain(16))
    grown = grow(tmp_path, Plain(8), donor, torch.randn(2, 3, 16, 16))
    got = {name: tensor.values() for name, tensor in grown.inheritance.tensors.items()}
    even = np.arange(0, 16, 2)
    weight = donor.layers[3].weight.detach().numpy()
    np.testing.assert_array_equal(got["layers.3.weight"], weight[even][:, even])
    np.testing.assert_array_equal(got["layers.1.running_var"], donor.layers[1].running_var.numpy()[even])
    np.testing.assert_array_equal(got["head.weight"], donor.head.weight.detach().numpy()[:, even])


def test_removing_silent_channels_keeps_outputs(tmp_path: Path) -> None:
    """Where the channels that are left out are zero in the donor, its outputs stay."""
    donor = trained(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5))
    with torch.no_grad():
        for block in (donor.layer1[0], donor.layer2[0], donor.layer3[0], donor.layer4[0]):
            half = block.conv1.out_channels // 2
            block.bn1.weight[half:] = 0
            block.bn1.bias[half:] = 0

    small = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)
    for block in (small.layer1[0], small.layer2[0], small.layer3[0], small.layer4[0]):
        half = block.conv1.out_channels // 2
        block.conv1 = torch.nn.Conv2d(block.conv1.in_channels, half, 3, block.conv1.stride, 1, bias=False)
        block.bn1 = torch.nn.BatchNorm2d(half)
        block.conv2 = torch.nn.Conv2d(half, block.conv2.out_channels, 3, 1, 1, bias=False)
    x = torch.randn(2, 3, 64, 64)
    grown = grow(tmp_path, small, donor, x, fresh=False, selection="first")
    assert grown.error <= 1e-5


def test_the_largest_channels_by_norm(tmp_path: Path) -> None:
    donor = trained(Plain(16))
    with torch.no_grad():
        donor.layers[0].weight[[1, 2, 5, 7, 8, 11, 12, 14]] *= 10
    grown = grow(tmp_path, Plain(8), donor, torch.randn(2, 3, 16, 16), selection="norm")
    taken = donor.layers[0].weight.detach().numpy()[[1, 2, 5, 7, 8, 11, 12, 14]]
    np.testing.assert_array_equal(grown.inheritance.tensors["layers.0.weight"].values(), taken)


def test_whole_heads_are_taken_from_packed_projections(tmp_path: Path) -> None:
    vit = torchvision.models.VisionTransformer
    donor = trained(vit(32, 8, 2, 4, 32, 64, num_classes=10))
    grown = grow(tmp_path, vit(32, 8, 2, 2, 16, 32, num_classes=10), donor, torch.randn(2, 3, 32, 32))
    name = "encoder.layers.encoder_layer_0.self_attention.in_proj_bias"
    packed = donor.encoder.layers.encoder_layer_0.self_attention.in_proj_bias.detach().numpy().reshape(3, 4, 8)
    np.testing.assert_array_equal(grown.inheritance.tensors[name].values(), packed[:, [0, 2]].reshape(-1))


def test_rotary_pairs_stay_together(tmp_path: Path) -> None:
    donor = trained(Decoder(each=16))
    grown = grow(tmp_path, Decoder(each=8), donor, torch.randint(0, 50, (2, 12)))
    rows = donor.blocks[0].attention.k.weight.detach().numpy().reshape(2, 2, 8, 32)[:, :, ::2].reshape(16, 32)
    values = next(t.values() for n, t in grown.inheritance.tensors.items() if "k.weight" in n + t.source)
    np.testing.assert_array_equal(values if values.shape == rows.shape else values.T, rows)


def test_another_family_and_another_number_of_classes(tmp_path: Path) -> None:
    small = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=7)
    large = ResNet(Bottleneck, [2, 2, 2, 2], num_classes=10)
    grown = grow(tmp_path, small, large, torch.randn(2, 3, 64, 64))
    assert set(grown.inheritance.kept) == {"fc.weight", "fc.bias"}
    assert "7 outputs" in grown.inheritance.kept["fc.weight"]
    assert grown.names - set(grown.inheritance.tensors) == {"fc.weight", "fc.bias"}
    assert np.isfinite(grown.outputs).all()
    assert not grown.inheritance.is_exact


def test_half_the_depth_takes_blocks_of_every_stage(tmp_path: Path) -> None:
    grown = grow(tmp_path, Encoder(depth=2), Encoder(depth=4), torch.randint(0, 50, (2, 12)))
    assert set(grown.inheritance.tensors) == grown.names
    assert any("left out" in doubt for doubt in grown.inheritance.doubts)
