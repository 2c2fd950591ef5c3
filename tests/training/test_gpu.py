"""What a GPU computes is what the CPU does. Skipped where there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from onnx_ghn.deepnets1m.network import Operation
from onnx_ghn.ghn import GHN, GHNConfig, new_ghn
from onnx_ghn.graph.model import ComputationGraph
from onnx_ghn.training.ghn.architectures import ArchitectureStream, Net, TrainingNet
from onnx_ghn.training.ghn.family_nets import FAMILIES, FamilyPool
from onnx_ghn.training.ghn.settings import NetLimits
from onnx_ghn.training.ghn.step import ghn_step
from onnx_ghn.training.group import _backend

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


@dataclasses.dataclass(frozen=True)
class InDouble:
    """A net in double precision: gradients of untrained nets magnify the rounding of float32 by thousands."""

    net: Net

    @property
    def graph(self) -> ComputationGraph:
        return self.net.graph

    def logits(self, tensors: Mapping[str, Tensor], images: Tensor) -> Tensor:
        return self.net.logits({name: tensor.double() for name, tensor in tensors.items()}, images.double())


def ghn_of(kind: str) -> GHN:
    config = GHNConfig.preset(kind, num_classes=10, max_shape=(32, 32, 11, 11), hid=16)
    return new_ghn(config, seed=0).train()


def nets() -> dict[str, Net]:
    """Some of DeepNets-1M and a network of each family, without anything random in them."""
    drawn = ArchitectureStream("train", 10, 7, NetLimits(max_cells=6, max_params=300_000, transformers=0.3))
    found: dict[str, Net] = {}
    for index, net in enumerate(drawn.meta_batch(0, 6)):
        if isinstance(net, TrainingNet) and net.architecture.fc_layers == 1:  # more have dropout
            found[f"DeepNets-1M {index}"] = net
    pool = FamilyPool(10, 32, seed=0)
    for index in range(len(FAMILIES)):
        family = pool[index]
        for layer in family.module.modules():
            if isinstance(layer, (nn.Dropout, StochasticDepth)):
                layer.p = 0.0
        found[family.family] = family
    assert len(found) > len(FAMILIES)
    return found


def gradient(ghn: GHN, net: Net, device: str) -> tuple[float, Tensor]:
    ghn = ghn.to(device)
    ghn.zero_grad()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    targets = torch.arange(8)
    result = ghn_step(ghn, [net], [(images.to(device), targets.to(device))], n_nets=1)
    assert result.n_finite == 1
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in ghn.parameters()]
    return result.loss, torch.cat([grad.flatten().cpu() for grad in grads])


@needs_gpu
@pytest.mark.parametrize("kind", ["ghn2", "ghn3"])
def test_a_prediction_is_that_of_the_cpu(kind: str) -> None:
    graphs = [net.graph for net in nets().values()]
    with torch.no_grad():
        expected = ghn_of(kind)(graphs)
        found = ghn_of(kind).to("cuda")(graphs)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for index, tensor in ours.items():
            assert tensor.is_cuda
            np.testing.assert_allclose(tensor.cpu().numpy(), theirs[index].numpy(), rtol=1e-3, atol=1e-5)


@needs_gpu
def test_a_step_is_that_of_the_cpu() -> None:
    ghn = ghn_of("ghn3")
    far = {}
    for name, net in nets().items():
        loss, expected = gradient(ghn, InDouble(net), "cpu")
        found_loss, found = gradient(ghn, InDouble(net), "cuda")
        distance = float((found - expected).norm() / expected.norm())
        if distance > 1e-3 or found_loss != pytest.approx(loss, rel=1e-5):
            far[name] = (distance, loss, found_loss)
    assert not far


@needs_gpu
def test_a_step_in_bfloat16_runs() -> None:
    ghn = ghn_of("ghn3").to("cuda")
    for name, net in nets().items():
        images = torch.randn(8, 3, 32, 32, device="cuda").bfloat16().contiguous(memory_format=torch.channels_last)
        result = ghn_step(ghn, [net], [(images, torch.arange(8, device="cuda"))], n_nets=1)
        assert result.n_finite == 1, name


@needs_gpu
@pytest.mark.parametrize("stride", [1, 2])
def test_pooling_has_the_gradient_of_the_cpu(stride: int) -> None:
    """torch's own was wrong for padded maps whose channels come last, forward right (pytorch issue 188344)."""
    layer = Operation("avg_pool", 3, 4, 4, stride).train()
    x = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(0))
    found = []
    for device in ("cpu", "cuda"):
        given = x.to(device).contiguous(memory_format=torch.channels_last).requires_grad_()
        y = layer(given)
        (gradient_,) = torch.autograd.grad(y, given, torch.arange(y.numel(), device=device).view(y.shape).float())
        found.append(gradient_.cpu())
    torch.testing.assert_close(found[1], found[0])


def test_processes_that_share_a_gpu_speak_by_gloo() -> None:
    """NCCL refuses two processes on one GPU."""
    assert [_backend(n_gpus, n) for n_gpus, n in ((0, 2), (1, 2), (2, 2), (8, 4))] == [
        "gloo",
        "gloo",
        "cpu:gloo,cuda:nccl",
        "cpu:gloo,cuda:nccl",
    ]
