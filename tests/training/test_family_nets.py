"""Networks of torchvision's families as training draws them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from onnx_ghn.errors import OptionError
from onnx_ghn.evaluate import batch_statistics_mode
from onnx_ghn.ghn import GHN, GHNConfig, new_ghn
from onnx_ghn.training.ghn import family_nets
from onnx_ghn.training.ghn.architectures import ArchitectureStream, TrainingNet
from onnx_ghn.training.ghn.family_nets import FAMILIES, FamilyNet, FamilyPool
from onnx_ghn.training.ghn.settings import NetLimits
from onnx_ghn.training.weights import load_tensors, predict_module

SEED, SIZE, CLASSES = 3, 16, 10


@pytest.fixture(scope="module")
def ghn() -> GHN:
    config = GHNConfig.preset(
        "ghn3", hid=8, max_shape=(32, 32, 7, 7), num_classes=CLASSES, dirac=True, graph_rules="onnx"
    )
    return new_ghn(config, seed=0)


@pytest.fixture(scope="module")
def pool() -> FamilyPool:
    return FamilyPool(CLASSES, SIZE, SEED, size=24)


@pytest.mark.parametrize("index", range(len(FAMILIES)), ids=list(FAMILIES))
def test_it_computes_what_the_module_does_with_predicted_weights(pool: FamilyPool, ghn: GHN, index: int) -> None:
    net = pool[index]
    (predicted,) = ghn([net.graph])
    tensors = {net.graph.parameters[i].name: t.detach().requires_grad_() for i, t in predicted.items()}
    images = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(index))
    logits = net.logits(tensors, images)
    logits.square().sum().backward()
    assert [name for name, t in tensors.items() if t.grad is None or not t.grad.isfinite().all()] == []

    rng = np.random.default_rng([SEED, index])
    module = FAMILIES[net.family](rng, CLASSES, SIZE)
    while sum(p.numel() for p in module.parameters()) > pool.max_params:
        module = FAMILIES[net.family](rng, CLASSES, SIZE)
    tokens = {n: p.detach().clone() for n, p in module.named_parameters() if n == "class_token"}  # no GHN decodes one
    load_tensors(module, predict_module(ghn, module, SIZE) | tokens)
    with batch_statistics_mode(module) as run, torch.no_grad():
        torch.testing.assert_close(logits.detach(), run(images), rtol=1e-3, atol=1e-4)


def test_nothing_that_trains_is_left_to_chance(pool: FamilyPool) -> None:
    for index in range(len(FAMILIES)):
        net = pool[index]
        real = {name for name, parameter in net.module.named_parameters() if not parameter.is_meta}
        assert real <= {"class_token"}, net.family


def test_networks_depend_on_seed_and_number_alone(pool: FamilyPool) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    again = 3 + len(FAMILIES)
    other = FamilyPool(CLASSES, SIZE, SEED, size=24)[again]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert other.graph.nodes == pool[again].graph.nodes
    assert pool[again].graph.nodes != pool[3].graph.nodes
    assert pool[again].family == pool[3].family


def test_none_is_a_resnet_with_a_name() -> None:
    sizes = [(2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)]
    for seed in range(20):
        net: nn.Module = FAMILIES["ResNet"](np.random.default_rng(seed), CLASSES, SIZE)
        assert tuple(len(getattr(net, f"layer{i}")) for i in range(1, 5)) not in sizes


def test_a_share_of_a_step_s_nets_are_of_families() -> None:
    stream = ArchitectureStream("train", CLASSES, 5, NetLimits(max_cells=4, families=0.5), image_size=SIZE)
    drawn = [net for step in range(5) for net in stream.meta_batch(step, 4)]
    of_families = sum(isinstance(net, FamilyNet) for net in drawn)
    assert 5 <= of_families <= 15
    assert of_families + sum(isinstance(net, TrainingNet) for net in drawn) == 20


def test_families_are_for_small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family_nets, "_DRAWS", 5)
    with pytest.raises(OptionError, match="small images"):
        ArchitectureStream("train", CLASSES, 5, NetLimits(families=0.5), large_images=True)
    with pytest.raises(OptionError, match="allow larger"):
        FamilyPool(CLASSES, SIZE, SEED, max_params=10)[0]
