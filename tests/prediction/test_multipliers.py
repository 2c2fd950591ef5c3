"""Weights that the model multiplies by a number before it uses them, as those that learn at an equalised rate."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from predict_models import Net, random_feed, session, tiny_ghn

import onnx_ghn
from onnx_ghn.graph import build_graph

FORMS = ("Mul", "Mul, number first", "Div", "twice, reshaped", "in a norm", "tiny")


def layer(form: str, number: float = 0.05, width: int = 6) -> onnx.ModelProto:
    """A product of matrices; its weight is multiplied by a number."""
    net = Net()
    x, w = net.input(2, 4), net.random("w", 4, width)
    c = net.tensor("c", 1 / number if form == "Div" else math.sqrt(number) if form == "twice, reshaped" else number)
    if form == "Mul, number first":
        scaled = net.op("Mul", c, w, out="s")
    elif form == "twice, reshaped":
        once = net.op("Reshape", net.op("Mul", w, c, out="once"), net.tensor("shape", [4, width], np.int64), out="r")
        scaled = net.op("Mul", once, c, out="s")
    elif form == "in a norm":
        norm = net.op("ReduceL2", w, out="norm", keepdims=0)
        scaled = net.op("Mul", net.op("Div", w, norm, out="unit"), c, out="s")
    else:
        scaled = net.op(form if form == "Div" else "Mul", w, c, out="s")
    net.op("MatMul", x, scaled, out="y")
    return net.model("y")


def values(model: onnx.ModelProto | Path) -> dict[str, np.ndarray]:
    proto = model if isinstance(model, onnx.ModelProto) else onnx.load(model)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


@pytest.mark.parametrize("form", FORMS)
def test_the_weight_that_is_used_is_the_predicted_one(form: str, tmp_path: Path) -> None:
    """It is that of a model without the number; where a norm makes scales immaterial, or the number says that a branch
    begins near zero, nothing is divided.
    """
    number = 1e-7 if form == "tiny" else 0.05
    times = 1.0 if form in ("in a norm", "tiny") else number
    model = layer(form, number)
    (parameter,) = (p for p in build_graph(model).parameters if p.name == "w")
    assert parameter.multiplier == pytest.approx(times)
    made = []
    for each in (model, layer("Mul", 1.0)):
        onnx_ghn.predict(each, tmp_path / "o.onnx", ghn=tiny_ghn(), policy="all", calibrate="none", force=True)
        made.append(values(tmp_path / "o.onnx")["w"])
    np.testing.assert_allclose(made[0] * times, made[1], rtol=1e-6)


def test_a_donor_that_multiplies_by_another_number(tmp_path: Path) -> None:
    """What is used is inherited; a recipient of twice the width divides by the root of twice as many inputs."""
    donor, model = layer("Mul", 0.5), layer("Div", 0.25)
    onnx.save(donor, tmp_path / "donor.onnx")
    prediction = onnx_ghn.predict(model, tmp_path / "o.onnx", donors=[tmp_path / "donor.onnx"])
    np.testing.assert_allclose(values(tmp_path / "o.onnx")["w"] * 0.25, values(donor)["w"] * 0.5, rtol=1e-6)
    runs = [session(each) for each in (donor, tmp_path / "o.onnx")]
    feed = random_feed(runs[0])
    np.testing.assert_allclose(*(run.run(None, feed)[0] for run in runs), rtol=1e-5, atol=1e-6)
    assert any("outputs lie 0 from the donor's" in note for note in prediction.coverage.notes)


def stack(where: str, depth: int = 6) -> onnx.ModelProto:
    """Convolutions without norms, of weights with variance 1, each multiplied by √(2 / inputs) on its way."""
    net = Net()
    x, width = net.input("N", 3, 16, 16), 3
    for i in range(depth):
        weight = net.random(f"w{i}", 16, width, 3, 3)
        number = net.tensor(f"c{i}", math.sqrt(2 / (9 * width)))
        if where == "weights":
            weight = net.op("Mul", weight, number, out=f"s{i}")
        else:
            x = net.op("Mul", x, number, out=f"m{i}")
        x = net.op("Relu", net.op("Conv", x, weight, out=f"h{i}", pads=[1, 1, 1, 1]), out=f"r{i}")
        width = 16
    x = net.op("Flatten", net.op("GlobalAveragePool", x, out="pool"), out="flat")
    net.op("Gemm", x, net.tensor("head", net.rng.standard_normal((5, 16)) / 4), out="y", transB=1)
    return net.model("y")


@pytest.mark.parametrize("policy", ["auto", "all"])
@pytest.mark.parametrize("where", ["weights", "data"])
def test_a_signal_arrives(where: str, policy: str, tmp_path: Path) -> None:
    """Outputs of smooth inputs, which predicted kernels are made for, have the size that the author gave them."""
    model = stack(where)
    onnx_ghn.predict(model, tmp_path / "o.onnx", policy=policy)
    smooth = np.random.default_rng(0).standard_normal((4, 3, 1, 1)).repeat(16, 2).repeat(16, 3).astype(np.float32)
    before, after = (np.abs(session(each).run(None, {"x": smooth})[0]).mean() for each in (model, tmp_path / "o.onnx"))
    assert before / 20 < after < before * 20
