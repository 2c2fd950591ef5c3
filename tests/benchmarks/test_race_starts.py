"""Each start gives what its name says, and nothing else."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from published_initialisers import mimetic_
from racing import starts
from racing.entrant import Entrant
from racing.frameworks import flax_, keras_
from racing.kinds import KINDS
from racing.nets.attention import Attention, VisionTransformer
from racing.scaling import lsuv_scales_
from racing.starts import Situation, UnavailableError, begin
from torch import nn

from onnx_ghn import initialize


def small_net() -> nn.Module:
    """A convolution of each kind, a norm and a head."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 5, 2, 2, groups=16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


@pytest.fixture
def situation() -> Situation:
    return Situation(Entrant("a net", "kind", "fashion", ("small",), "sgd", 8, small_net), 3, Path("nowhere"))


def test_own_values_depend_on_the_seed_alone(situation: Situation) -> None:
    torch.manual_seed(situation.seed)
    expected = small_net().state_dict()
    torch.manual_seed(99)
    found = begin(situation, "own").state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def vision_transformer() -> nn.Module:
    return VisionTransformer(1, 32, 10, 8, 16, 1, 2)


@pytest.mark.parametrize(
    ("cure", "kept"), [("positions", {"pos_embedding"}), ("head", {"head.weight"}), ("", set())], ids=str
)
def test_a_cure_that_keeps_values_keeps_those_of_its_kind(situation: Situation, cure: str, kept: set[str]) -> None:
    situation = dataclasses.replace(situation, entrant=dataclasses.replace(situation.entrant, build=vision_transformer))
    own = situation.own().state_dict()
    found = begin(situation, f"bare+{cure}" if cure else "bare").state_dict()
    equal = {name for name, value in own.items() if torch.equal(value, found[name])}
    assert equal & {"pos_embedding", "head.weight", "patches.weight"} == kept


def test_all_cures_together_are_what_predict_does_and_what_is_kept(situation: Situation) -> None:
    predicted = situation.own()
    initialize(predicted, torch.zeros(1, 1, 32, 32), policy="all", post="differences", exclude=["^9"])
    found = begin(situation, "bare+together").state_dict()
    assert all(torch.equal(value, found[name]) for name, value in predicted.state_dict().items())


def test_data_scale_the_layers_of_a_network_without_norms(
    situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
        )

    batch = torch.randn(16, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(Situation, "batch", lambda self: batch)
    situation = dataclasses.replace(situation, entrant=dataclasses.replace(situation.entrant, build=build))
    found, plain = begin(situation, "auto+data"), begin(situation, "auto")
    with torch.no_grad():
        scaled, drawn = (float(net(batch).square().mean().sqrt()) for net in (found, plain))
    assert scaled == pytest.approx(1, rel=0.06)
    assert drawn != pytest.approx(1, rel=0.06)


def test_spatial_kernels_alone_are_predicted(situation: Situation) -> None:
    starts._predicted.cache_clear()
    own = situation.own().state_dict()
    predicted = situation.own()
    initialize(predicted, torch.zeros(1, 1, 32, 32), policy="all")
    found = begin(situation, "spatial").state_dict()
    assert set(found) == set(own)
    for name, value in found.items():
        if "running" in name:
            continue  # measured with these kernels
        if name in ("0.weight", "5.weight"):  # but for one number, which brings the outputs to the own network's scale
            expected = predicted.state_dict()[name]
            assert torch.allclose(value / value.norm(), expected / expected.norm(), atol=1e-5), name
        else:
            assert torch.equal(value, own[name]), name
    assert not torch.equal(found["0.weight"], own["0.weight"])
    whole = begin(situation, "all").state_dict()
    assert all(torch.equal(whole[name], value) for name, value in predicted.state_dict().items())


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("conv2d", {"0.weight", "3.weight", "5.weight"}),
        ("conv2d-spatial", {"0.weight", "5.weight"}),
        ("depthwise", {"5.weight"}),
        ("pointwise", {"3.weight"}),
        ("linear", {"9.weight"}),
        ("norm", {"1.weight", "1.bias"}),
        ("bias", {"0.bias", "3.bias", "5.bias", "9.bias"}),
        ("first", {"0.weight", "0.bias"}),
        ("head", {"9.weight", "9.bias"}),
        ("embedding", set()),
        ("recurrent", set()),
        ("conv1d", set()),
    ],
)
def test_kinds_of_tensors(kind: str, names: set[str]) -> None:
    assert set(KINDS[kind](small_net())) == names


def test_a_network_without_the_kind_has_no_such_start(situation: Situation) -> None:
    with pytest.raises(UnavailableError, match="a net has no tensors of the kind 'recurrent'"):
        begin(situation, "only:recurrent")
    with pytest.raises(UnavailableError, match="no attention"):
        begin(situation, "mimetic")


def test_lsuv_scales_each_layer_by_one_number_to_variance_one() -> None:
    torch.manual_seed(0)
    net = small_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    inputs = torch.randn(64, 1, 32, 32)
    lsuv_scales_(net, inputs)
    after = net.state_dict()
    for name, value in after.items():
        if name in ("0.weight", "3.weight", "5.weight", "9.weight"):
            ratio = value / before[name]
            assert float(ratio.std()) == pytest.approx(0, abs=1e-4)
            assert float(ratio.mean()) != pytest.approx(1)
        else:
            assert torch.equal(value, before[name]), name
    x = inputs
    for layer in net.train():
        x = layer(x).detach()
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert float(x.var()) == pytest.approx(1, abs=0.1)


@torch.no_grad()
def test_keras_and_flax_draw_by_their_rules() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(200, 100), nn.Conv2d(16, 32, 3), nn.Embedding(300, 64))
    keras_(net)
    bound = math.sqrt(6 / 300)
    assert float(net[0].weight.abs().max()) == pytest.approx(bound, rel=0.01)
    assert float(net[0].weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert float(net[1].weight.abs().max()) == pytest.approx(math.sqrt(6 / (48 * 9)), rel=0.01)
    assert float(net[2].weight.abs().max()) == pytest.approx(0.05, rel=0.01)
    assert not net[0].bias.any()
    flax_(net)
    assert float(net[0].weight.std()) == pytest.approx(math.sqrt(1 / 200), rel=0.02)
    assert float(net[1].weight.std()) == pytest.approx(math.sqrt(1 / (16 * 9)), rel=0.04)
    assert float(net[2].weight.std()) == pytest.approx(1 / 8, rel=0.02)
    cells = nn.LSTM(12, 8)
    keras_(cells)
    matrix = cells.weight_hh_l0  # (4 · 8, 8): columns of length one at right angles
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(8), atol=1e-5, rtol=0)
    assert cells.bias_ih_l0.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16


def test_mimetic_attention_has_the_products_of_the_paper() -> None:
    torch.manual_seed(0)
    net = VisionTransformer(1, 32, 10, 8, 96, 2, 1)
    assert mimetic_(net, 0) == 2
    for layer in net.modules():
        if isinstance(layer, Attention):
            query, key, value = layer.qkv.weight.detach().chunk(3)
            score, carried = query.T @ key, value.T @ layer.proj.weight.detach().T  # (d, d), x score x' and x carried
            for product, diagonal in ((score, 0.7), (carried, -0.4)):
                assert float(product.diagonal().mean()) == pytest.approx(diagonal, abs=0.05)
                rest = product - torch.diag(product.diagonal())
                assert float(rest.std()) == pytest.approx(abs(diagonal) / math.sqrt(96), rel=0.1)
    assert float(net.pos_embedding.detach().square().mean()) == pytest.approx(0.5, rel=1e-3)
