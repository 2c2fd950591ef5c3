"""Weights that are stored as sparse tensors stay, and what is beside them is filled."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import predict_models as m
import pytest
from onnx import helper, numpy_helper

import onnx_ghn


def _model(kind: str) -> tuple[onnx.ModelProto, np.ndarray]:
    """A perceptron whose first matrix has a tenth of its elements."""
    net = m.Net()
    net.input(2, 8)
    rng = np.random.default_rng(1)
    weight = np.where(rng.random((8, 16)) < 0.1, rng.standard_normal((8, 16)), 0).astype(np.float32)
    flat, places = np.flatnonzero(weight), np.argwhere(weight)
    indices = numpy_helper.from_array(flat if kind == "initializer" else places, "w1_indices")
    sparse = helper.make_sparse_tensor(numpy_helper.from_array(weight[weight != 0], "w1"), indices, [8, 16])
    if kind == "constant":
        net.nodes.append(helper.make_node("Constant", [], ["w1"], sparse_value=sparse))
    net.op("MatMul", "x", "w1", out="h")
    net.op("Add", "h", net.random("b1", 16), out="a")
    net.op("Relu", "a", out="r")
    net.op("MatMul", "r", net.random("w2", 16, 4), out="y")
    model = net.model("y", shape=[2, 4])
    if kind == "initializer":
        model.graph.sparse_initializer.append(sparse)
    return model, weight


@pytest.mark.parametrize("kind", ["initializer", "constant"])
def test_a_sparse_weight_stays_and_the_rest_is_filled(kind: str, tmp_path: Path, caplog: Any) -> None:
    model, weight = _model(kind)
    path, bare, given, filled = (tmp_path / f"{name}.onnx" for name in ("model", "bare", "given", "filled"))
    onnx.save(model, path)
    prediction = onnx_ghn.predict(path, ghn=m.tiny_ghn(), policy="all")
    outcomes = {d.parameter.name: d.outcome for d in prediction.coverage.entries}
    assert outcomes == {"w1": "kept", "b1": "predicted", "w2": "predicted"}
    prediction.save(filled)
    feed = m.random_feed(m.session(path))
    hidden = np.maximum(feed["x"] @ weight + prediction["b1"], 0)
    np.testing.assert_allclose(m.run(filled, feed)[0], hidden @ prediction["w2"], rtol=1e-4, atol=1e-5)

    with caplog.at_level(logging.WARNING):
        onnx_ghn.strip(path, bare)
    assert "sparse" in caplog.text
    onnx_ghn.predict(bare, ghn=m.tiny_ghn(), donors=[path]).save(given)
    np.testing.assert_array_equal(m.run(given, feed)[0], m.run(path, feed)[0])


def test_a_dense_weight_inherits_from_a_sparse_one(tmp_path: Path) -> None:
    model, weight = _model("initializer")
    path = tmp_path / "donor.onnx"
    onnx.save(model, path)
    dense = onnx.ModelProto()
    dense.CopyFrom(model)
    del dense.graph.sparse_initializer[:]
    dense.graph.initializer.append(numpy_helper.from_array(weight + 1, "w1"))
    prediction = onnx_ghn.predict(dense, ghn=m.tiny_ghn(), donors=[path])
    np.testing.assert_array_equal(prediction["w1"], weight)
