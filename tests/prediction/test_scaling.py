"""Layers scaled to outputs of scale 1 by the user's inputs, where a policy says that it pays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import onnx_ghn
from onnx_ghn.exporters import pytorch
from onnx_ghn.prediction import predict

LAYERS = (nn.Conv2d, nn.Linear)


def vgg(n_outputs: int = 5, norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    norms = [[nn.BatchNorm2d(width)] if norm else [] for width in (8, 12)]
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), *norms[0], nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), *norms[1],
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, n_outputs),
    )  # fmt: skip


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    np.save(tmp_path / "samples.npy", np.random.default_rng(1).standard_normal((32, 3, 16, 16)).astype(np.float32))
    return tmp_path / "samples.npy"


def exported(net: nn.Module, tmp_path: Path) -> Path:
    pytorch.export(net, tmp_path / "net.onnx", torch.zeros(2, 3, 16, 16))
    return tmp_path / "net.onnx"


def scales(net: nn.Module, inputs: Tensor) -> list[float]:
    """Root mean squares of the outputs of its layers."""
    found: list[float] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output: found.append(float(output.square().mean().sqrt())))
        for layer in net.modules()
        if isinstance(layer, LAYERS)
    ]
    with torch.no_grad():
        net(inputs)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("policy", ["auto", "early"])
def test_each_layer_of_a_classifier_without_norms_gives_scale_one(policy: Any, samples: Path, tmp_path: Path) -> None:
    net, inputs = vgg(), torch.from_numpy(np.load(samples))
    prediction = predict(exported(net, tmp_path), tmp_path / "init.onnx", policy=policy, calibrate=samples)
    own = {name: value.clone() for name, value in net.state_dict().items()}
    pytorch.load(net, tmp_path / "init.onnx", example_inputs=torch.zeros(2, 3, 16, 16))
    assert scales(net, inputs) == pytest.approx([1, 1, 1], rel=0.06)
    assert any("so that the outputs of each layer have scale 1" in note for note in prediction.coverage.notes)
    # What is kept is the author's start, multiplied by one number.
    ratio = net.state_dict()["7.weight"] / own["7.weight"]
    assert ratio.std() < 1e-5
    assert not torch.allclose(ratio.mean(), torch.ones(()), atol=0.05)


@pytest.mark.parametrize("case", ["norms", "regression", "drawn inputs", "none", "all"])
def test_other_models_keep_their_scales(case: str, samples: Path, tmp_path: Path) -> None:
    net = vgg(1 if case == "regression" else 5, norm=case == "norms")
    source = exported(net, tmp_path)
    calibrate = "synthetic" if case == "drawn inputs" else samples
    policy: Any = case if case in ("none", "all") else "auto"
    prediction = predict(source, policy=policy, calibrate=calibrate)
    assert not any("have scale 1" in note for note in prediction.coverage.notes)
    if case != "all":
        head = next(name for name in prediction if prediction[name].shape == ((1 if case == "regression" else 5), 12))
        (own,) = (onnx.numpy_helper.to_array(t) for t in onnx.load(source).graph.initializer if t.name == head)
        np.testing.assert_array_equal(prediction[head], own)


def test_what_is_kept_by_name_is_not_scaled(samples: Path, tmp_path: Path) -> None:
    net = vgg()
    prediction = predict(exported(net, tmp_path), calibrate=samples, exclude="^7")
    own = net.state_dict()["7.weight"].numpy()
    assert "7.weight" not in prediction or np.array_equal(prediction["7.weight"], own)


def test_a_policy_may_leave_it_out(samples: Path, tmp_path: Path) -> None:
    shipped = Path(onnx_ghn.list_ghns()[0].path)
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((shipped / name).read_bytes())
    rules = json.loads((shipped / "policy.json").read_text())
    rules.pop("unit_scales")
    (tmp_path / "policy.json").write_text(json.dumps(rules))
    prediction = predict(exported(vgg(), tmp_path), ghn=tmp_path, calibrate=samples)
    assert not any("have scale 1" in note for note in prediction.coverage.notes)
