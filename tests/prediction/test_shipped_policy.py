"""What the policy beside the shipped GHN predicts, and what it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from test_policy import export
from torch import nn

import onnx_ghn
from onnx_ghn import predict
from onnx_ghn.inspection import inspect_model
from onnx_ghn.prediction.features import ModelFeatures, TensorFeatures, tensor_features
from onnx_ghn.prediction.policy import read_policy

EXAMPLES = Path(__file__).resolve().parents[2] / "data" / "examples"


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("resnet18_cifar10", {"conv2d"}),
        ("mobilenet_keras", {"conv2d"}),
        ("detector_fpn", set()),
        ("vit_small_torch", set()),
        ("gpt_like", set()),
        ("bert_like", set()),
        ("lstm_text", set()),
        ("audio_m5", set()),
    ],
)
def test_what_the_shipped_policy_predicts_of_the_examples(name: str, kinds: set[str]) -> None:
    path = EXAMPLES / f"{name}.onnx"
    predicted = {e.parameter.name for e in inspect_model(path).coverage.entries if e.outcome == "predicted"}
    graph = onnx_ghn.build_graph(path)
    features = dict(zip((p.name for p in graph.parameters), tensor_features(graph), strict=True))
    assert {features[name].kind for name in predicted} == kinds
    kernels = {name for name, each in features.items() if each.kind == "conv2d"}
    assert predicted == (kernels if kinds else set())
    early = {e.parameter.name for e in inspect_model(path, policy="early").coverage.entries if e.outcome == "predicted"}
    assert early >= predicted


class _Maps(nn.Module):
    """Convolutions with batch norms, whose maps have the size of the images or half of it, or end in classes."""

    def __init__(self, channels: int, stride: int, classes: bool, norm: bool = True, pooled: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 16, 3, stride, padding=1)
        self.norm = nn.BatchNorm2d(16) if norm else nn.Identity()
        self.last = nn.Linear(16, 10) if classes else nn.Conv2d(16, 4, 3, padding=1)
        self.classes, self.pooled = classes, pooled

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        if self.pooled:  # (N, 10, 1, 1), as of SqueezeNet before it is flattened
            return nn.functional.adaptive_avg_pool2d(nn.functional.conv2d(x, self.last.weight[:, :, None, None]), 1)
        return self.last(x.mean((2, 3)) if self.classes else x)


@pytest.mark.parametrize(
    ("net", "side", "n_predicted"),
    [
        ((3, 1, True), 32, 1),
        ((1, 1, True), 32, 0),  # spectrograms: there kernels end lower
        ((1, 1, True, False), 32, 1),  # as LeNet
        ((3, 1, True, True, True), 32, 1),  # as SqueezeNet
        ((3, 1, False), 32, 2),  # as a U-Net
        ((3, 2, False), 32, 0),  # as a detector
    ],
    ids=["colour", "one channel", "one channel, no norm", "pooled", "maps of full size", "coarser maps"],
)
def test_where_the_default_keeps_the_authors_start(
    net: tuple[Any, ...], side: int, n_predicted: int, tmp_path: Path
) -> None:
    """As measured: docs/race.md."""
    torch.manual_seed(0)
    path = tmp_path / "net.onnx"
    onnx.save(export(_Maps(*net), torch.randn(1, net[0], side, side)), path)
    for policy, n in (("auto", n_predicted), ("none", 0)):
        entries = inspect_model(path, policy=policy).coverage.entries
        assert sum(entry.outcome == "predicted" for entry in entries) == n


def test_the_shipped_policy_leaves_networks_with_attention_alone() -> None:
    """Patches of 4 × 4 pixels are kernels of that size, too."""
    policy = read_policy(EXAMPLES.parents[1] / "checkpoints" / "ghn-cifar10" / "policy.json")
    patches = TensorFeatures("conv2d", 4, 4, fan_in=48, first=True)
    transformer = ModelFeatures("image", 2, True, False, "layer", 0.1, 0.0, 0.0, "")
    convolutional = ModelFeatures("image", 2, False, False, "layer", 0.1, 0.0, 0.0, "")
    for mode in ("auto", "early"):
        assert [v.take for v in policy.verdicts(mode, transformer, [patches], "")] == [False]
        assert [v.take for v in policy.verdicts(mode, convolutional, [patches], "")] == [True]


def test_a_convolution_that_tells_classes_apart_keeps_its_start() -> None:
    """SqueezeNet's head: 1 × 1, before the mean over the map. The GHN knows other classes."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 20, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    for policy in ("auto", "early"):
        found = predict(export(net, torch.zeros(2, 3, 16, 16)), policy=policy)
        outcomes = {e.parameter.name: e.outcome for e in found.coverage.entries if e.parameter.name.endswith("weight")}
        assert outcomes == {"0.weight": "predicted", "2.weight": "predicted", "4.weight": "kept"}
