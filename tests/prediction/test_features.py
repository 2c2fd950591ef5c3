"""What a policy looks at: features of models and of tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from predict_models import Net
from test_policy import export, features_of, network
from torch import nn

from onnx_ghn.prediction.features import TensorFeatures


@pytest.mark.parametrize(
    ("shape", "axes", "n_outputs"),
    [
        ((2, 10), 2, 10),
        ((2, 10, 1, 1), 2, 10),
        ((2, 10, 1, 1, 1), 2, 10),
        ((2, 24, 1), 3, 1),  # a series of one channel
        ((2, 1, 1), 3, 1),
        ((2, 10, 8, 1), 4, 1),  # a map of one column
        ((2, 10, 1, 8), 4, 8),
    ],
)
def test_only_pooled_maps_count_as_two_axes(shape: tuple[int, ...], axes: int, n_outputs: int) -> None:
    proto = network()
    proto.graph.output[0].type.tensor_type.shape.CopyFrom(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, shape).type.tensor_type.shape
    )
    model, _ = features_of(proto)
    assert (model.output_axes, model.n_outputs) == (axes, n_outputs)


def test_features_of_an_image_network() -> None:
    model, tensors = features_of(network())
    n_conv, n_linear = 8 * 27 + 64 + 24, 40
    assert model.data == "image"
    assert model.output_axes == 2
    assert model.norm == "batch"
    assert not model.attention
    assert model.conv2d_share == pytest.approx(n_conv / (n_conv + n_linear))
    assert not model.sign_of_training
    assert tensors["0.weight"] == TensorFeatures("conv2d", 3, 3, fan_in=27, first=True)
    assert tensors["3.weight"] == TensorFeatures("conv2d", fan_in=8)
    assert tensors["5.weight"] == TensorFeatures("conv2d", 3, 1, depthwise=True, fan_in=3)
    assert tensors["8.weight"] == TensorFeatures("linear", fan_in=8, head=True)
    assert tensors["1.weight"].kind == tensors["1.bias"].kind == "norm"


@pytest.mark.parametrize(
    ("shape", "dtype", "data"),
    [
        ((2, 3, 8, 8), torch.float32, "image"),
        ((2, 3, 8), torch.float32, "series"),
        ((2, 8), torch.float32, "table"),
        ((2, 3, 4, 8, 8), torch.float32, "video"),
        ((2, 8), torch.int64, "tokens"),
    ],
)
def test_what_the_input_looks_like(shape: tuple[int, ...], dtype: torch.dtype, data: str) -> None:
    class Any2(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.linear = nn.Embedding(10, 8), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.linear(self.table(x) if x.dtype is torch.int64 else x)
            return y

    assert features_of(export(Any2(), torch.zeros(shape, dtype=dtype)))[0].data == data


@pytest.mark.parametrize(
    ("draw", "trained"), [("uniform", False), ("standard_normal", False), ("standard_cauchy", True)]
)
def test_without_norms_heavy_tails_tell_of_training(draw: str, trained: bool) -> None:
    net = Net()
    net.input("N", 3, 16, 16)
    rng = np.random.default_rng(0)
    values = getattr(rng, draw)(size=(64, 3, 3, 3)).clip(-20, 20)
    net.op("Conv", "x", net.tensor("w", values), out="y")
    sign = "most of its weights have values far from the others" if trained else ""
    assert features_of(net.model("y"))[0].sign_of_training == sign


@pytest.mark.parametrize(
    ("draw", "first_statistics", "trained"),
    [("standard_normal", True, False), ("standard_normal", False, True), ("standard_cauchy", True, True)],
)
def test_scales_that_an_author_draws_are_no_sign_of_training(draw: str, first_statistics: bool, trained: bool) -> None:
    """DCGAN draws them around 1, RepVGG of timm around 0.1; files whose statistics were folded into them have tails."""
    net = Net()
    net.input("N", 3, 16, 16)
    rng = np.random.default_rng(0)
    values = getattr(rng, draw)(size=(64, 3, 3, 3)).clip(-20, 20)
    net.op("Conv", "x", net.tensor("w", values), out="y")
    mean = np.zeros(64) if first_statistics else rng.normal(size=64)
    scales = (rng.normal(1, 0.02, 64), rng.normal(0, 0.1, 64))
    norm = [net.tensor(name, of) for name, of in zip("gbmv", (*scales, mean, np.ones(64)), strict=True)]
    net.op("BatchNormalization", "y", *norm, out="z")
    assert bool(features_of(net.model("z"))[0].sign_of_training) is trained


def test_what_multiplies_inputs_without_being_learned_is_no_sign_of_training() -> None:
    """The bands of a NeRF: a fresh network behind them was taken for a trained one, and kept."""
    net = Net()
    net.input("N", 3, 16, 16)
    net.op("Mul", "x", net.tensor("bands", [[[1.0]], [[2.0]], [[4.0]]]), out="angle")
    net.op("Concat", net.op("Sin", "angle", out="s"), net.op("Cos", "angle", out="c"), out="both", axis=1)
    net.op("Mul", "both", net.tensor("half", np.arange(6.0).reshape(1, 6, 1, 1) % 2), out="masked")
    net.op("Conv", "masked", net.random("w", 64, 6, 3, 3), out="y")
    assert features_of(net.model("y"))[0].sign_of_training == ""
