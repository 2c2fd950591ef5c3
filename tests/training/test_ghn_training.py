"""Training a GHN: the gradient of a step, resuming to the bit, the share of processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from onnx_ghn.deepnets1m.functional import run_network
from onnx_ghn.deepnets1m.genotypes import VIT
from onnx_ghn.deepnets1m.network import Network
from onnx_ghn.errors import CheckpointError, OptionError
from onnx_ghn.ghn import GHN, GHNConfig, load_ghn, new_ghn
from onnx_ghn.training.checkpoint_state import load_state, save_state
from onnx_ghn.training.ghn import architectures
from onnx_ghn.training.ghn.architectures import ArchitectureStream
from onnx_ghn.training.ghn.settings import NetLimits
from onnx_ghn.training.ghn.step import ghn_step
from onnx_ghn.training.ghn.trainer import GHNTrainer, TrainConfig
from onnx_ghn.training.group import Group

SMALL = NetLimits(max_cells=4, max_params=10**6)
CONFIG = GHNConfig.preset("ghn2", hid=8, max_shape=(16, 16, 7, 7), num_classes=4)


class Images:
    """Noise by step."""

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(4, 3, 32, 32, generator=generator)
        return images, torch.randint(0, 4, (4,), generator=generator)


def trainer(folder: Path | None, **changes: object) -> GHNTrainer:
    config = TrainConfig(steps=6, meta_batch_size=2, opt="adamw", ema=0.9, save_interval=2, log_interval=1, **changes)
    return GHNTrainer(new_ghn(CONFIG, seed=0), ArchitectureStream("train", 4, 7, SMALL), Images(), config, folder)


def weights(ghn: GHN) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in ghn.named_parameters()}


def test_the_functional_pass_equals_the_network() -> None:
    stream = ArchitectureStream("train", 10, 3, NetLimits(max_cells=6, channels=32))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for step in range(8):
        (net,) = stream.meta_batch(step, 1)
        torch.manual_seed(step)
        module = Network(net.architecture).train()
        for layer in module.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        decoded = {net.graph.parameters[i].name for i in net.graph.decoded_parameters()}
        tensors = {name: p for name, p in module.named_parameters() if name in decoded}
        with torch.no_grad():
            expected = module(images)
            found = run_network(net.architecture, tensors, images)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_limits_that_fit_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "_DRAWS", 1200)
    for limits in (NetLimits(max_cells=3), NetLimits(max_params=10)):
        with pytest.raises(OptionError, match="none of 1,200 networks"):
            ArchitectureStream("train", 10, 3, limits).meta_batch(0, 1)
    with pytest.raises(OptionError, match="C is 33, must be even"):
        ArchitectureStream("train", 10, 3, NetLimits(channels=33)).meta_batch(0, 1)


def test_the_gradient_of_a_step_is_that_of_the_mean_loss() -> None:
    nets = ArchitectureStream("train", 4, 1, SMALL).meta_batch(0, 3)
    batches = [Images().batch(step) for step in range(3)]
    ghn = new_ghn(CONFIG, seed=0).train()
    torch.manual_seed(0)
    result = ghn_step(ghn, nets, batches, n_nets=3)
    found = {name: p.grad.clone() for name, p in ghn.named_parameters() if p.grad is not None}
    ghn.zero_grad()
    torch.manual_seed(0)
    losses = []
    for net, predicted, (images, targets) in zip(nets, ghn([net.graph for net in nets]), batches, strict=True):
        named = {net.graph.parameters[i].name: tensor for i, tensor in predicted.items()}
        losses.append(F.cross_entropy(run_network(net.architecture, named, images, dropout=True), targets))
    torch.stack(losses).mean().backward()
    assert result.loss == pytest.approx(sum(float(loss.detach()) for loss in losses), rel=1e-5)
    for name, p in ghn.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(found[name], p.grad, rtol=1e-3, atol=1e-6)


def test_nets_depend_on_seed_and_step_alone() -> None:
    stream = ArchitectureStream("val", 10, 5, SMALL)
    later = stream.meta_batch(9, 2)
    assert [n.architecture for n in ArchitectureStream("val", 10, 5, SMALL).meta_batch(9, 2)] == [
        n.architecture for n in later
    ]
    assert [n.architecture for n in stream.meta_batch(8, 2)] != [n.architecture for n in later]
    assert all(n.architecture.n_cells <= 4 for n in later)


def test_a_share_of_nets_are_plain_transformers() -> None:
    stream = ArchitectureStream("train", 10, 5, NetLimits(max_cells=4, transformers=0.5))
    drawn = [net.architecture for step in range(8) for net in stream.meta_batch(step, 4)]
    plain = [architecture for architecture in drawn if architecture.genotype == VIT]
    assert 8 <= len(plain) <= 24
    assert len({(architecture.n_cells, architecture.C) for architecture in plain}) > 4
    for architecture in plain[:3]:
        net = Network(architecture).eval()
        assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_a_resumed_run_equals_one_that_was_not_interrupted(tmp_path: Path) -> None:
    whole = trainer(None)
    whole.run()
    first = trainer(tmp_path)
    first.run(until=4)
    second = trainer(tmp_path)
    assert second.resume()
    assert second.step == 4
    second.run()
    for name, tensor in weights(whole.ghn).items():
        assert torch.equal(tensor, weights(second.ghn)[name]), name
        assert torch.equal(whole.state.averaged()[name], second.state.averaged()[name]), name
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    saved = load_ghn(tmp_path / "ghn")
    assert saved.config.trained
    for name, p in saved.named_parameters():
        assert torch.equal(p, second.state.averaged()[name])


@pytest.mark.parametrize(("own", "asked"), [(False, [0, 1, 2]), (True, [0, 1, 2, 3, 4, 5])])
def test_nets_of_a_step_see_the_same_images_or_each_its_own(own: bool, asked: list[int]) -> None:
    class Told(Images):
        def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
            steps.append(step)
            return super().batch(step)

    steps: list[int] = []
    run = trainer(None, own_images=own)
    run.images = Told()
    run.run(until=3)
    assert run.config.meta_batch_size == 2
    assert sorted(steps) == asked


def test_another_run_s_checkpoint_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path).run(until=2)
    with pytest.raises(CheckpointError, match="lr"):
        trainer(tmp_path, lr=0.5).resume()
    (tmp_path / "state.safetensors").write_bytes(b"no state")
    with pytest.raises(CheckpointError, match="state"):
        trainer(tmp_path).resume()


def test_a_run_of_a_version_with_fewer_settings_goes_on(tmp_path: Path) -> None:
    trainer(tmp_path).run(until=2)
    path = tmp_path / "state.safetensors"
    tensors, record = load_state(path)
    del record["train"]["own_images"], record["ghn"]["pooled_flatten"]
    save_state(path, tensors, record)
    assert trainer(tmp_path).resume()
    with pytest.raises(CheckpointError, match="own_images"):
        trainer(tmp_path, own_images=True).resume()


def test_steps_that_are_not_finite_change_nothing(tmp_path: Path) -> None:
    class Broken(Images):
        def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
            images, targets = super().batch(step)
            return images * (float("nan") if step == 1 else 1.0), targets

    run = trainer(None)
    run.images = Broken()
    run.run(until=1)
    before = weights(run.ghn)
    run.run(until=2)
    assert run.skipped == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(run.ghn).items())
    run.run(until=3)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(run.ghn).items())


def test_processes_share_the_nets() -> None:
    assert Group().share("ab", [1, 2]) == ["b", "a"]
    parts = [Group(rank, 2).share("abcd", [1, 5, 3, 3]) for rank in range(2)]
    assert parts == [["b", "a"], ["c", "d"]]


def test_learning_rates() -> None:
    cosine = TrainConfig(steps=100, scheduler="cosine", lr=1.0, warmup=10)
    assert cosine.schedule()(0) == pytest.approx(0.1)
    assert cosine.schedule()(55) == pytest.approx(0.5)
    step = TrainConfig(steps=100, lr=1.0, lr_steps=(50, 80))
    np.testing.assert_allclose([step.schedule()(i) for i in (0, 50, 80)], [1, 0.1, 0.01])
    with pytest.raises(OptionError):
        TrainConfig(steps=0)
