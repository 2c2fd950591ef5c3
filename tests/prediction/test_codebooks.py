"""Rows that a network chooses itself are those of a codebook: they keep their values, in each place of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from predict_models import Net, arrays, tiny_ghn

from onnx_ghn import build_graph, predict
from onnx_ghn.graph import Role


def quantiser(lookup: str = "Gather") -> onnx.ModelProto:
    """As torch's first exporter writes vector-quantize-pytorch 1.32.0: the codebook once to look rows up, and once to
    tell which row is nearest, with other axes of length 1 in front."""
    net = Net()
    net.input("N", 6)
    net.op("MatMul", "x", net.random("enter", 6, 8), out="z")
    book = net.random("book", 1, 1, 16, 8)
    rows = np.frombuffer(net.tensors[-1].raw_data, np.float32)
    net.tensor("again", rows.reshape(1, 16, 8).copy())
    net.op("Einsum", "z", "again", out="near", equation="nd,hkd->nk")
    index = net.op("ArgMax", "near", out="index", axis=1, keepdims=0)
    if lookup == "Gather":
        net.op("Gather", book, index, out="picked", axis=2)  # (1, 1, N, 8)
    else:
        net.op("Unsqueeze", index, net.tensor("axes", [0, 1, 3], np.int64), out="deep")
        net.op("Expand", "deep", net.tensor("wide", [1, 1, 1, 8], np.int64), out="all")
        net.op("GatherElements", book, "all", out="picked", axis=2)
    net.op("Reshape", "picked", net.tensor("flat", [-1, 8], np.int64), out="q")
    net.op("MatMul", "q", net.random("leave", 8, 3), out="y")
    return net.model("y", shape=["N", 3])


@pytest.mark.parametrize("lookup", ["Gather", "GatherElements"])
def test_a_codebook_keeps_its_rows_in_both_places(lookup: str, tmp_path: Path) -> None:
    proto = quantiser(lookup)
    prediction = predict(proto, tmp_path / "o.onnx", ghn=tiny_ghn(), policy="all")
    before, written = arrays(proto), arrays(onnx.load(tmp_path / "o.onnx"))
    for name in ("book", "again"):
        assert written[name].tobytes() == before[name].tobytes()
    for name in ("enter", "leave"):
        assert not np.array_equal(written[name], before[name])
    reasons = {entry.parameter.name: entry.reason for entry in prediction.coverage.entries}
    assert reasons["book"].startswith("the author's start: rows that the network chooses itself")
    assert reasons["again"] == "tied: equal to book, which is kept"


def test_a_codebook_that_is_to_be_overwritten_stays_one(tmp_path: Path) -> None:
    proto = quantiser()
    predict(proto, tmp_path / "o.onnx", ghn=tiny_ghn(), policy="all", overwrite_special=True)
    written = arrays(onnx.load(tmp_path / "o.onnx"))
    assert not np.array_equal(written["book"], arrays(proto)["book"])
    np.testing.assert_array_equal(written["book"][0], written["again"])


def test_words_with_which_a_loop_goes_on_are_no_codebook() -> None:
    kind, whole = TensorProto.FLOAT, TensorProto.INT64
    net = Net()
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "word"], ["e"]),
            helper.make_node("MatMul", ["e", "head"], ["scores"]),
            helper.make_node("ArgMax", ["scores"], ["next"], axis=1, keepdims=0),
            helper.make_node("Gather", ["table", "next"], ["after"]),
            helper.make_node("Identity", ["go"], ["goes"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", whole, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("word", whole, [1]),
        ],
        [
            helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", whole, [1]),
            helper.make_tensor_value_info("after", kind, [1, 8]),
        ],
    )
    net.input(1, kind=whole)
    net.random("table", 12, 8)
    net.random("head", 8, 12)
    turns = net.tensor("turns", 3, np.int64)
    net.nodes.append(helper.make_node("Loop", [turns, "", "x"], ["last", "y"], body=body))
    (table,) = [p for p in build_graph(net.model("y", shape=[3, 1, 8])).parameters if p.name == "table"]
    assert (table.role, table.doubt) == (Role.embedding, "")
