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
    second = donor.layers[3].weight.detach().numpy()
    largest = np.sort(np.argsort(-(second**2).sum((1, 2, 3)))[:8])
    found = grown.inheritance.tensors["layers.3.weight"].values()
    np.testing.assert_array_equal(found, second[largest][:, [1, 2, 5, 7, 8, 11, 12, 14]])


def _is_multiple(found: np.ndarray, of: np.ndarray) -> float:
    """How many times another array an array is: what is left out is made up for, as no norm follows."""
    times = float(np.linalg.norm(found) / np.linalg.norm(of))
    np.testing.assert_allclose(found, times * of, rtol=1e-6)
    assert 1 <= times < 1.4143
    return times


class _Attention(torch.nn.Module):
    """Attention whose queries, keys and values are made by weights of their own."""

    def __init__(self, heads: int, each: int = 8) -> None:
        super().__init__()
        self.heads, inner = heads, heads * each
        self.q, self.k, self.v = (torch.nn.Linear(16, inner) for _ in range(3))
        self.o = torch.nn.Linear(inner, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        out: torch.Tensor = self.o((weights @ v).transpose(1, 2).flatten(2))
        return out


def test_queries_keys_and_values_of_the_same_heads_by_norm(tmp_path: Path) -> None:
    """Alone, queries would take heads 0 and 1, keys 1 and 2, and values 2 and 3; together these count most: 1 and 2."""
    donor = trained(_Attention(4))
    with torch.no_grad():
        for layer, heads in ((donor.q, {0: 2, 1: 3}), (donor.k, {1: 4, 2: 6}), (donor.v, {2: 3, 3: 2})):
            for head, factor in heads.items():
                layer.weight[8 * head : 8 * head + 8] *= factor
    found = grow(tmp_path, _Attention(2), donor, torch.randn(2, 5, 16), selection="norm").inheritance.tensors
    for name in "qkv":
        weight = getattr(donor, name).weight.detach().numpy()
        np.testing.assert_array_equal(found[f"{name}.weight"].values(), weight[8:24])
    _is_multiple(found["o.weight"].values(), donor.o.weight.detach().numpy()[:, 8:24])


def test_dimensions_of_queries_are_those_of_keys_by_norm(tmp_path: Path) -> None:
    donor = trained(_Attention(2))
    with torch.no_grad():
        donor.q.weight[[1, 9]] *= 10
        donor.k.weight[[6, 14]] *= 20
    found = grow(tmp_path, _Attention(2, 2), donor, torch.randn(2, 5, 16), selection="norm").inheritance.tensors
    for name in "qk":
        weight = getattr(donor, name).weight.detach().numpy()
        np.testing.assert_array_equal(found[f"{name}.weight"].values(), weight[[1, 6, 9, 14]])


def _multiplied(width: int, times: int, groups: int) -> torch.nn.Sequential:
    """A convolution in groups, whose outputs are `times` as many as its inputs."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, width, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(width, times * width, 3, padding=1, groups=groups),
        torch.nn.ReLU(),
        torch.nn.Conv2d(times * width, 2, 1),
    )


@pytest.mark.parametrize("groups", [8, 4], ids=["a channel a group", "two channels a group"])
def test_outputs_of_groups_go_with_the_inputs_that_are_read(groups: int, tmp_path: Path) -> None:
    """The largest inputs are the first ones, and the largest outputs are the last ones: groups of inputs decide."""
    donor = trained(_multiplied(8, 2, groups))
    with torch.no_grad():
        donor[0].weight[:4] *= 10
        donor[2].weight[8:] *= 10
    example = torch.randn(2, 3, 8, 8)
    grown = grow(tmp_path, _multiplied(4, 2, groups // 2), donor, example, selection="norm")
    found = {name: tensor.values() for name, tensor in grown.inheritance.tensors.items()}
    np.testing.assert_array_equal(found["0.weight"], donor[0].weight.detach().numpy()[:4])
    np.testing.assert_array_equal(found["2.weight"], donor[2].weight.detach().numpy()[:8])
    times = _is_multiple(found["4.weight"], donor[4].weight.detach().numpy()[:, :8])
    # By hand: the donor without its other channels, made up for, gives the same.
    with torch.no_grad():
        donor[4].weight *= times
        donor[4].weight[:, 8:] = 0
        donor[0].weight[4:] = 0
    expected = donor(example).detach().numpy()
    np.testing.assert_allclose(grown.outputs, expected, atol=1e-5 * np.abs(expected).max())


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


def test_what_the_donor_has_more_of_is_told(tmp_path: Path) -> None:
    grown = grow(tmp_path, Encoder(depth=2), Encoder(depth=4), torch.randint(0, 50, (2, 12)))
    assert set(grown.inheritance.tensors) == grown.names
    assert any("left out" in doubt for doubt in grown.inheritance.doubts)


@pytest.mark.parametrize(("depth", "donor_depth"), [(2, 4), (3, 6), (4, 5)])
def test_of_layers_that_are_alike_the_first_are_taken(tmp_path: Path, depth: int, donor_depth: int) -> None:
    grown = grow(tmp_path, Decoder(depth=depth), Decoder(depth=donor_depth), torch.randint(0, 50, (2, 12)))
    sources = {name: tensor.source for name, tensor in grown.inheritance.tensors.items()}
    assert sources == {name: name for name in grown.names}


def test_of_layers_with_norms_behind_their_sums_the_first_are_taken(tmp_path: Path) -> None:
    grown = grow(tmp_path, Encoder(depth=2), Encoder(depth=4), torch.randint(0, 50, (2, 12)))
    sources = {name: tensor.source for name, tensor in grown.inheritance.tensors.items()}
    assert sources == {name: name for name in grown.names}


def test_of_blocks_of_a_stage_the_first_are_taken(tmp_path: Path) -> None:
    recipient, donor = (ResNet(BasicBlock, depths, num_classes=10) for depths in ([2, 2, 2, 1], [3, 4, 6, 3]))
    grown = grow(tmp_path, recipient, donor, torch.randn(2, 3, 64, 64))
    sources = {
        name.rsplit(".", 2)[0]: tensor.source.rsplit(".", 2)[0]
        for name, tensor in grown.inheritance.tensors.items()
        if name.startswith("layer") and "downsample" not in name
    }
    assert len(sources) == 7
    assert all(name == source for name, source in sources.items())


class _Unnormalised(torch.nn.Module):
    """Convolutions and a classifier without a norm, as in VGG and SqueezeNet."""

    def __init__(self, width: int, depth: int = 6) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = [torch.nn.Conv2d(3, width, 3, padding=1), torch.nn.ReLU()]
        for _ in range(depth):
            layers += [torch.nn.Conv2d(width, width, 3, padding=1), torch.nn.ReLU()]
        self.layers = torch.nn.Sequential(*layers)
        self.head = torch.nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x).mean((2, 3)))


def _as_if_trained(module: torch.nn.Module) -> torch.nn.Module:
    """Weights that keep the scale of what they read (He et al. 2015), and small biases."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            torch.nn.init.normal_(layer.bias, std=0.01)
    return module.eval()


def test_a_network_without_norms_keeps_its_scale(tmp_path: Path) -> None:
    """What is left out is made up for: without it, each of seven layers would lose about a third of its scale."""
    donor, small = _as_if_trained(_Unnormalised(32)), _Unnormalised(16)
    x = torch.randn(4, 3, 12, 12)
    grown = grow(tmp_path, small, donor, x, fresh=False)
    weight = donor.layers[4].weight.detach().numpy()
    even = np.arange(0, 32, 2)
    times = min(np.sqrt((weight**2).sum() / (weight[:, even] ** 2).sum()), np.sqrt(2))
    assert times > 1.3
    tensor = grown.inheritance.tensors["layers.4.weight"]
    np.testing.assert_allclose(tensor.values(), weight[even][:, even] * times, rtol=1e-6)
    assert f"× {times:.3g} for inputs that are left out" in tensor.rule
    small.load_state_dict({name: torch.tensor(one.values()) for name, one in grown.inheritance.tensors.items()})
    with torch.no_grad():
        theirs, ours = (net.layers(x).square().mean().sqrt().item() for net in (donor, small))
    assert 0.5 < ours / theirs < 2


def test_silent_channels_of_a_network_without_norms_are_left_out_exactly(tmp_path: Path) -> None:
    donor, small = _as_if_trained(_Unnormalised(32)), _Unnormalised(16)
    with torch.no_grad():
        for layer in donor.layers[::2]:
            layer.weight[16:] = 0
            layer.bias[16:] = 0
    grown = grow(tmp_path, small, donor, torch.randn(4, 3, 12, 12), fresh=False, selection="first")
    assert grown.error <= 1e-6
