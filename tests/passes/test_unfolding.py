"""Batch norms that torch's exporters folded are found and put back; others' convolutions are left alone."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from predict_models import besides_copies
from torch import nn

import onnx_ghn
from onnx_ghn.onnx_io import read_model, write_model
from onnx_ghn.passes import UnfoldBatchNorms, find_folded

pytestmark = pytest.mark.filterwarnings("ignore")
IMAGE = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def first(module: nn.Module, **options: Any) -> onnx.ModelProto:
    data = io.BytesIO()
    torch.onnx.export(module.eval(), (IMAGE,), data, dynamo=False, **options)
    return onnx.load_from_string(data.getvalue())


def second(module: nn.Module, **options: Any) -> onnx.ModelProto:
    logging.disable(logging.CRITICAL)
    program = torch.onnx.export(module.eval(), (IMAGE,), dynamo=True, verbose=False, **options)
    logging.disable(logging.NOTSET)
    return program.model_proto


def trained(module: nn.Module) -> nn.Module:
    """With statistics and shifts that a training would leave."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.1)
    return module


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=5)


def small(norm: bool, bias: bool) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width in (3, 8, 8):
        layers += [nn.Conv2d(width, 8, 3, bias=bias), *([nn.BatchNorm2d(8)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


def output(model: onnx.ModelProto | Path) -> np.ndarray:
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: IMAGE.numpy()})[0]


@pytest.mark.parametrize("export", [first, second])
@pytest.mark.parametrize("fresh", [True, False])
def test_folded_ones_come_back(export: Any, fresh: bool, tmp_path: Path) -> None:
    module = resnet() if fresh else trained(resnet())
    folded = export(module)
    assert not any(node.op_type == "BatchNormalization" for node in folded.graph.node)
    model = read_model(folded)
    assert len(find_folded(model)) == 20
    assert len(UnfoldBatchNorms()(model).changes) == 20
    path = write_model(model, tmp_path / "m.onnx")[0]
    onnx.checker.check_model(str(path), full_check=True)
    np.testing.assert_allclose(output(path), output(folded), rtol=1e-4, atol=1e-5)


def test_the_graph_is_that_of_an_export_without_folding(tmp_path: Path) -> None:
    module = trained(resnet())
    kept = first(module, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
    one = onnx_ghn.predict(kept, calibrate="none", correct_scales=False, policy="all")
    other = onnx_ghn.predict(first(module), unfold_batchnorm=True, calibrate="none", correct_scales=False, policy="all")
    assert one.coverage.n_trainable == other.coverage.n_trainable
    assert [node.primitive for node in one.graph.nodes] == [node.primitive for node in other.graph.nodes]
    assert besides_copies(other.coverage.notes) == ["20 folded batch norms put back"]
    assert sorted(value.shape for value in one.values()) == sorted(value.shape for value in other.values())
    for mine, theirs in zip(
        sorted(one.values(), key=lambda v: (v.shape, float(np.sum(v)))),
        sorted(other.values(), key=lambda v: (v.shape, float(np.sum(v)))),
        strict=True,
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_they_are_told_without_the_option() -> None:
    coverage = onnx_ghn.predict(first(trained(resnet())), calibrate="none", correct_scales=False, policy="all").coverage
    assert "20 convolutions look as if batch norms had been folded" in coverage.notes[0]
    assert "`unfold_batchnorm`" in coverage.notes[0]


@pytest.mark.parametrize("export", [first, second])
def test_without_residual_sums(export: Any) -> None:
    assert len(find_folded(read_model(export(small(norm=True, bias=False))))) == 3


@pytest.mark.parametrize(
    "module",
    [
        lambda: small(norm=False, bias=True),
        lambda: torchvision.models.squeezenet1_1(num_classes=4),
        lambda: torchvision.models.convnext_tiny(num_classes=4),
        lambda: torchvision.models.VisionTransformer(32, 16, 3, 4, 128, 256, num_classes=4),
    ],
    ids=["plain", "squeezenet", "convnext", "vit"],
)
def test_nets_without_batch_norms_are_left_alone(module: Callable[[], nn.Module]) -> None:
    exported = first(module())
    assert find_folded(read_model(exported)) == []
    prediction = onnx_ghn.predict(exported, unfold_batchnorm=True, calibrate="none", correct_scales=False, policy="all")
    assert besides_copies(prediction.coverage.notes) == ["no folded batch norms were found"]


def test_batch_norms_that_are_there_are_left_alone() -> None:
    kept = first(resnet(), training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
    assert find_folded(read_model(kept)) == []
    assert find_folded(read_model(second(resnet(), optimize=False))) == []
