"""Frequencies of sines and cosines keep their values; layers whose outputs happen to be angles are layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from predict_models import Net, arrays, tiny_ghn

from onnx_ghn import build_graph, predict, strip

_DOUBT = "frequencies of sines and cosines"


def features(kind: str) -> onnx.ModelProto:
    """Sines and cosines of inputs (N, 2) times "bands", and a layer behind them: as torch's first exporter writes it,
    which tells buffers by nothing."""
    net = Net()
    net.input("N", 2)
    if kind == "drawn":  # random Fourier features
        angle = net.op("MatMul", "x", net.random("bands", 2, 8), out="product")
    elif kind == "octaves":  # of a NeRF: each coordinate by each band, in a shape that is computed
        net.op("Unsqueeze", "x", net.tensor("axis", [1], np.int64), out="x1")
        net.op("Mul", "x1", net.tensor("bands", 2.0 ** np.arange(4)[:, None]), out="x2")
        net.op("Shape", "x", out="sizes")
        net.op("Gather", "sizes", net.tensor("first", [0], np.int64), out="n")
        net.op("Concat", "n", net.tensor("rest", [-1], np.int64), out="flat", axis=0)
        angle = net.op("Reshape", "x2", "flat", out="product")
    elif kind == "shifted":  # phases beside the frequencies
        net.op("MatMul", "x", net.random("bands", 2, 8), out="turned")
        angle = net.op("Add", "turned", net.random("phases", 8), out="product")
    else:  # a layer before
        net.op("Relu", net.op("MatMul", "x", net.random("before", 2, 5), out="h"), out="r")
        angle = net.op("MatMul", "r", net.random("bands", 5, 8), out="product")
    angle = net.op("Mul", angle, net.tensor("pi", np.float32(2 * np.pi)), out="angle")
    net.op("Sin", angle, out="s")
    net.op("Cos" if kind != "sines" else "Tanh", angle, out="c")
    net.op("Concat", "s", "c", out="both", axis=1)
    net.op("MatMul", "both", net.random("head", 16, 3), out="y")
    return net.model("y", shape=["N", 3])


@pytest.mark.parametrize("kind", ["drawn", "octaves", "shifted"])
def test_frequencies_keep_their_values(kind: str, tmp_path: Path) -> None:
    proto = features(kind)
    prediction = predict(proto, tmp_path / "o.onnx", ghn=tiny_ghn(), policy="all")
    before, written = arrays(proto), arrays(onnx.load(tmp_path / "o.onnx"))
    assert written["bands"].tobytes() == before["bands"].tobytes()  # octaves were all filled with 1
    assert not np.array_equal(written["head"], before["head"])
    entry = next(entry for entry in prediction.coverage.entries if entry.parameter.name == "bands")
    assert (entry.outcome, entry.reason) == ("kept", f"the author's start: {_DOUBT}")


@pytest.mark.parametrize("kind", ["deep", "sines"])
def test_what_is_no_feature_of_positions_is_a_layer(kind: str) -> None:
    parameters = {p.name: p for p in build_graph(features(kind)).parameters}
    assert parameters["bands"].role.value == "weight"
    assert [p.doubt for p in parameters.values()] == [""] * len(parameters)


@pytest.mark.parametrize("kind", ["drawn", "octaves"])
def test_frequencies_stay_where_weights_are_taken_out(kind: str, tmp_path: Path) -> None:
    """They were zeros, and then what any weight gets: the features of a file that was filled were others."""
    proto = features(kind)
    onnx.save(proto, tmp_path / "m.onnx")
    strip(tmp_path / "m.onnx", tmp_path / "s.onnx")
    predict(tmp_path / "s.onnx", tmp_path / "o.onnx", ghn=tiny_ghn(), policy="all")
    before, written = arrays(proto), arrays(onnx.load(tmp_path / "o.onnx"))
    assert written["bands"].tobytes() == before["bands"].tobytes()
    assert not np.array_equal(written["head"], before["head"])
    assert written["head"].any()
