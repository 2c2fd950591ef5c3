"""A weight whose inputs are a flattened map is that of the map's mean."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import onnx_ghn
from onnx_ghn.deepnets1m import Architecture, symbolic_graph
from onnx_ghn.deepnets1m.genotypes import DARTS
from onnx_ghn.ghn import GHN, GHNConfig, new_ghn
from onnx_ghn.ghn.targets import targets_of

SIZE = 6
Form = Literal["pooled", "flattened", "channels last"]


@pytest.fixture(scope="module")
def ghn() -> GHN:
    sizes = {"max_shape": (16, 16, 7, 7), "num_classes": 10, "hid": 8, "dirac": True, "graph_rules": "onnx"}
    return new_ghn(GHNConfig.preset("ghn3", pooled_flatten=True, **sizes), seed=3)


def network(form: Form, channels: int, hidden: int | None) -> onnx.ModelProto:
    """A convolution and one or two linear layers behind it, all zeros."""
    n_in = channels * (1 if form == "pooled" else SIZE * SIZE)
    shapes = {"conv": (channels, 3, 3, 3)}
    if hidden:
        shapes |= {"fc": (hidden, n_in)}
    shapes |= {"head": (10, hidden or n_in), "bias": (10,)}
    nodes = [helper.make_node("Conv", ["x", "conv"], ["map"], pads=[1, 1, 1, 1])]
    nodes.append(helper.make_node("Relu", ["map"], ["active"]))
    if form == "channels last":
        nodes.append(helper.make_node("Transpose", ["active"], ["ordered"], perm=[0, 2, 3, 1]))
    else:
        nodes.append(helper.make_node("GlobalAveragePool" if form == "pooled" else "Identity", ["active"], ["ordered"]))
    nodes.append(helper.make_node("Flatten", ["ordered"], ["flat"]))
    last = "flat"
    if hidden:
        nodes.append(helper.make_node("Gemm", ["flat", "fc"], ["features"], transB=1))
        nodes.append(helper.make_node("Relu", ["features"], ["hidden"]))
        last = "hidden"
    nodes.append(helper.make_node("Gemm", [last, "head", "bias"], ["y"], transB=1))
    tensors = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in shapes.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "net", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    import onnxruntime

    filled = onnx.ModelProto()
    filled.CopyFrom(model)
    for tensor in filled.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(tensors[tensor.name]), tensor.name))
    session = onnxruntime.InferenceSession(filled.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def of_mean(weight: np.ndarray, channels: int, form: Form) -> np.ndarray:
    """The weight of a pooled map that does the same: summed over the positions."""
    shape = (-1, channels, SIZE * SIZE) if form == "flattened" else (-1, SIZE * SIZE, channels)
    positions = 2 if form == "flattened" else 1
    parts = weight.reshape(shape)
    assert np.ptp(parts, axis=positions).max() == 0
    return parts.sum(axis=positions)


@pytest.mark.parametrize("form", ["flattened", "channels last"])
@pytest.mark.parametrize("channels", [8, 40])  # below and above what is decoded
@pytest.mark.parametrize("hidden", [None, 24])
def test_the_network_is_the_pooled_one(ghn: GHN, form: Form, channels: int, hidden: int | None) -> None:
    model = network(form, channels, hidden)
    prediction = onnx_ghn.predict(model, ghn=ghn, calibrate="none", correct_scales=False)
    assert set(prediction) == {tensor.name for tensor in model.graph.initializer}
    weights = {name: prediction[name] for name in prediction}
    first = "fc" if hidden else "head"
    pooled = weights | {first: of_mean(weights[first], channels, form)}
    x = np.random.default_rng(0).standard_normal((4, 3, SIZE, SIZE)).astype(np.float32)
    theirs = run(network("pooled", channels, hidden), pooled, x)
    assert np.ptp(theirs, axis=0).max() > 0
    np.testing.assert_allclose(run(model, weights, x), theirs, rtol=1e-4, atol=1e-6)
    # And its size is that of a pooled map's weight, which a GHN has learned to give.
    (norms,) = (np.linalg.norm(pooled[first], axis=1),)
    alone = onnx_ghn.predict(network("pooled", channels, hidden), ghn=ghn, calibrate="none", correct_scales=False)
    assert np.median(norms) == pytest.approx(np.median(np.linalg.norm(alone[first], axis=1)), rel=0.5)


def test_both_orders_are_one_network(ghn: GHN) -> None:
    found = [
        of_mean(
            onnx_ghn.predict(network(form, 40, 24), ghn=ghn, calibrate="none", correct_scales=False)["fc"], 40, form
        )
        for form in ("flattened", "channels last")
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_training_and_prediction_decode_the_same(ghn: GHN) -> None:
    graph = symbolic_graph(Architecture(DARTS, n_cells=2, C=16, glob_avg=False))
    head = [t for t in targets_of(graph, ghn.config) if t.kind == "class_weight"]
    assert [target.tiled for target in head] == [(10, 128, 64)]
    with torch.no_grad():
        (predicted,) = ghn([graph])
    for index, block in ghn.blocks(graph).items():
        np.testing.assert_allclose(block.array(), predicted[index].numpy(), rtol=1e-5, atol=1e-7)


def test_published_ghns_tile_it(ghn: GHN) -> None:
    plain = new_ghn(GHNConfig.preset("ghn2", max_shape=(16, 16, 7, 7), num_classes=10, hid=8), seed=1)
    found = onnx_ghn.predict(network("flattened", 8, None), ghn=plain, calibrate="none", correct_scales=False)["head"]
    np.testing.assert_array_equal(found[:, :16], found[:, 16:32])
    assert np.ptp(found[:, :16], axis=1).min() > 0
