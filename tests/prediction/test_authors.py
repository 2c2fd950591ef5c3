"""What the author of a file chose on purpose stays, unless it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from predict_models import Net, arrays, tiny_ghn

from onnx_ghn import predict


def outcomes(proto: onnx.ModelProto, **options: Any) -> dict[str, tuple[str, str]]:
    coverage = predict(proto, ghn=tiny_ghn(), calibrate="none", correct_scales=False, **options).coverage
    return {entry.parameter.name: (entry.outcome, entry.reason) for entry in coverage.entries}


def block(special: dict[str, Any]) -> onnx.ModelProto:
    """A residual block of two convolutions, a batch norm and a LayerScale, with some tensors of the author's."""
    net = Net()
    net.input("N", 3, 8, 8)
    given = {
        "w1": net.rng.standard_normal((8, 3, 3, 3)),
        "b1": net.rng.standard_normal(8),
        "w2": net.rng.standard_normal((8, 8, 3, 3)),
        "gamma": net.rng.uniform(0.5, 1.5, 8),
        "beta": net.rng.standard_normal(8),
        "layer_scale": net.rng.standard_normal((8, 1, 1)),
        "wh": net.rng.standard_normal((4, 8, 1, 1)),
        "bh": net.rng.standard_normal(4),
    } | special
    name = {key: net.tensor(key, value) for key, value in given.items()}
    h = net.op("Conv", "x", name["w1"], name["b1"], out="h", pads=[1] * 4)
    z = net.op("Conv", net.op("Relu", h, out="r"), name["w2"], out="z", pads=[1] * 4)
    statistics = net.tensor("mean", np.linspace(0, 1, 8)), net.tensor("var", np.linspace(1, 2, 8))
    n = net.op("BatchNormalization", z, name["gamma"], name["beta"], *statistics, out="n")
    s = net.op("Mul", n, name["layer_scale"], out="s")
    net.op("Conv", net.op("Add", h, s, out="sum"), name["wh"], name["bh"], out="y")
    return net.model("y")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bh", np.full(4, -4.595)),  # the prior of a focal loss
        ("bh", np.full(4, 0.1)),
        ("b1", np.full(8, 1.0)),
        ("gamma", np.zeros(8)),  # a residual branch that begins at zero
        ("layer_scale", np.full((8, 1, 1), 1e-6)),
        ("layer_scale", np.full((8, 1, 1), 0.1)),
        ("w2", np.zeros((8, 8, 3, 3))),
        ("wh", np.zeros((4, 8, 1, 1))),
    ],
)
def test_what_the_author_chose_stays(name: str, value: np.ndarray) -> None:
    proto = block({name: value})
    prediction = predict(proto, ghn=tiny_ghn(), calibrate="none", correct_scales=False)
    found = {entry.parameter.name: entry for entry in prediction.coverage.entries}
    assert found[name].outcome == "kept"
    assert found[name].reason.startswith("the author's start: ")
    assert name not in prediction
    others = {"w1", "b1", "w2", "gamma", "beta", "wh", "bh"} - {name}
    assert {key for key in others if found[key].outcome == "predicted"} == others
    assert outcomes(proto, overwrite_special=True)[name][0] in ("predicted", "fallback")


@pytest.mark.parametrize(
    ("name", "value"),
    [("b1", np.zeros(8)), ("beta", np.zeros(8)), ("gamma", np.ones(8)), ("layer_scale", np.ones((8, 1, 1)))],
)
def test_what_everybody_begins_with_is_filled(name: str, value: np.ndarray) -> None:
    assert outcomes(block({name: value}))[name][0] == ("fallback" if name == "layer_scale" else "predicted")


def test_zeros_say_nothing_where_all_weights_are_zero() -> None:
    proto = block({"w1": np.zeros((8, 3, 3, 3)), "w2": np.zeros((8, 8, 3, 3)), "wh": np.zeros((4, 8, 1, 1))})
    found = outcomes(proto)
    assert {found[name][0] for name in ("w1", "w2", "wh")} == {"predicted"}


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((1, 1, 6, 6)),
        -np.abs(np.arange(6)[:, None] - np.arange(6)) * np.array([0.3, 0.2, 0.1, 0.05]).reshape(1, 4, 1, 1),
        np.random.default_rng(0).standard_normal((1, 4, 6, 6)) * 0.02,
    ],
    ids=["zero mask", "ALiBi", "relative positions"],
)
def test_biases_of_attention_scores_stay(mask: np.ndarray) -> None:
    net = Net()
    net.input("N", 4, 6, 8)
    q = net.op("MatMul", "x", net.random("wq", 8, 8), out="q")
    k = net.op("MatMul", "x", net.random("wk", 8, 8), out="k")
    scores = net.op("MatMul", q, net.op("Transpose", k, out="kt", perm=[0, 1, 3, 2]), out="scores")
    biased = net.op("Add", scores, net.tensor("mask", mask), out="biased")
    net.op("MatMul", net.op("Softmax", biased, out="p", axis=-1), "x", out="y")
    prediction = predict(net.model("y"), ghn=tiny_ghn(), calibrate="none", correct_scales=False)
    assert "mask" not in prediction
    assert {"wq", "wk"} <= set(prediction)


def int8(net: Net, name: str, *shape: int) -> str:
    return net.tensor(name, net.rng.integers(-127, 127, shape), np.int8)


def dynamic(kind: str) -> onnx.ModelProto:
    """A layer that onnxruntime quantised dynamically, by channel, with a float layer behind."""
    net = Net()
    is_conv = kind == "ConvInteger"
    net.input("N", *((3, 8, 8) if is_conv else (12,)))
    net.nodes.append(onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]))
    w = int8(net, "w", 8, 3, 3, 3) if is_conv else int8(net, "w", 12, 8)
    zero = net.tensor("w_zero", np.zeros(() if is_conv else 8), np.int8)
    net.op(kind, "q", w, "z", zero, out="acc")
    net.op("Cast", "acc", out="float", to=TensorProto.FLOAT)
    scale = net.tensor("w_scale", net.rng.uniform(0.001, 0.002, (8, 1, 1) if is_conv else 8))
    net.op("Mul", "float", net.op("Mul", "s", scale, out="both"), out="a")
    if is_conv:
        net.op("Conv", "a", net.random("w2", 4, 8, 1, 1), out="y")
    else:
        net.op("MatMul", "a", net.random("w2", 8, 4), out="y")
    return net.model("y")


def by_hand() -> onnx.ModelProto:
    """Integers cast and scaled in the graph."""
    net = Net()
    net.input("N", 12)
    w = net.op("Cast", int8(net, "w", 12, 8), out="w_float", to=TensorProto.FLOAT)
    w = net.op("Mul", w, net.tensor("w_scale", net.rng.uniform(0.001, 0.002, (1, 8))), out="w_scaled")
    net.op("MatMul", net.op("MatMul", "x", w, out="a"), net.random("w2", 8, 4), out="y")
    return net.model("y")


def unknown(op: str, integers: Any) -> onnx.ModelProto:
    net = Net()
    net.input("N", 64)
    w = net.tensor("w", net.rng.integers(0, 100, (32, 2, 16)), integers)
    net.op(op, "x", w, net.tensor("w_scale", net.rng.uniform(0.001, 0.002, (32, 2))), out="a", domain="com.microsoft")
    net.op("MatMul", "a", net.random("w2", 32, 4), out="y")
    return net.model("y", shape=["N", 4])


@pytest.mark.parametrize(
    "proto",
    [
        dynamic("MatMulInteger"),
        dynamic("ConvInteger"),
        by_hand(),
        unknown("MatMulNBits", np.uint8),
        unknown("GatherBlockQuantized", np.uint8),
        unknown("SomethingNew", np.int8),
    ],
    ids=["MatMulInteger", "ConvInteger", "by hand", "MatMulNBits", "GatherBlockQuantized", "unknown"],
)
def test_scales_and_integers_are_no_weights(proto: onnx.ModelProto) -> None:
    prediction = predict(proto, ghn=tiny_ghn(), calibrate="none", correct_scales=False)
    found = {entry.parameter.name: entry for entry in prediction.coverage.entries}
    assert {name: found[name].outcome for name in ("w", "w_scale", "w2")} == {
        "w": "kept",
        "w_scale": "kept",
        "w2": "predicted",
    }
    sizes = {name: array.size for name, array in arrays(proto).items()}
    assert prediction.coverage.share("predicted") <= sizes["w2"] / (sizes["w"] + sizes["w2"])
