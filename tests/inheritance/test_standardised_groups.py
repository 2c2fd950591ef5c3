"""Grouped convolutions whose kernels a batch norm standardises: inputs and places of a kernel are one axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from predict_models import export, run, tiny_ghn
from timm.layers import ScaledStdConv2d
from torch import nn

from onnx_ghn import predict, strip


def net(width: int) -> nn.Module:
    torch.manual_seed(width)
    layers = ScaledStdConv2d(3, width, 3), nn.ReLU(), ScaledStdConv2d(width, width, 3, groups=width // 4), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))


def test_they_are_inherited_where_sizes_agree_and_kept_where_they_do_not(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32)
    for width in (16, 32):
        export(
            net(width),
            (torch.zeros(2, 3, 12, 12),),
            tmp_path / f"{width}.onnx",
            input_names=["x"],
            do_constant_folding=True,
        )
    donor = tmp_path / "16.onnx"
    strip(donor, tmp_path / "bare.onnx")
    same = predict(tmp_path / "bare.onnx", tmp_path / "same.onnx", donors=[donor], ghn=tiny_ghn())
    assert len(same.inheritance.tensors) == 8  # two kernels, two gains, three biases and a matrix
    (wanted,), (found,) = (run(path, {"x": x}) for path in (donor, tmp_path / "same.onnx"))
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)
    wide = predict(tmp_path / "32.onnx", donors=[donor], ghn=tiny_ghn()).inheritance
    (kept,) = wide.kept.values()
    assert "one axis holds inputs and places" in kept
