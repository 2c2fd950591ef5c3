"""Tensors that strip emptied, and that nothing fills, are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from predict_models import Net, tiny_ghn

from onnx_ghn import predict, strip


def _quantised_in_blocks() -> onnx.ModelProto:
    net = Net(21)
    net.input("N", 12)
    given = [net.tensor("w", net.rng.integers(-9, 9, (20, 12)), np.int8), net.tensor("scale", np.full((20, 3), 0.01))]
    net.op("DequantizeLinear", *given, out="w_float", axis=1, block_size=4)
    net.op("Gemm", "x", "w_float", net.random("b", 20), out="y", transB=1)
    return net.model("y")


def test_what_strip_emptied_and_nothing_fills_is_told(tmp_path: Path) -> None:
    onnx.save(_quantised_in_blocks(), tmp_path / "full.onnx")
    bare = strip(tmp_path / "full.onnx", tmp_path / "bare.onnx")
    told = [
        "1 quantised tensor holds zeros alone, as in a stripped file, and cannot be filled, first w: predict the model "
        "before it is quantised"
    ]
    assert [note for note in predict(bare, ghn=tiny_ghn()).coverage.notes if "zeros" in note] == told
    assert not [note for note in predict(tmp_path / "full.onnx", ghn=tiny_ghn()).coverage.notes if "zeros" in note]


def test_vectors_of_unknown_operators_that_strip_emptied_are_told(tmp_path: Path) -> None:
    net = Net(21)
    net.input("N", 12)
    net.op("Gemm", "x", net.random("w", 20, 12), out="h", transB=1)
    net.op("Mystery", "h", net.random("gain", 20), out="y", domain="com.strange")
    full = net.model("y")
    full.opset_import.append(onnx.helper.make_opsetid("com.strange", 1))
    onnx.save(full, tmp_path / "full.onnx")
    bare = strip(tmp_path / "full.onnx", tmp_path / "bare.onnx")
    told = [
        "1 tensor holds zeros alone, as in a stripped file, that nothing fills, first gain: operator "
        "com.strange::Mystery is not in the table; predict the model before it is stripped, or inherit them"
    ]
    assert [note for note in predict(bare, ghn=tiny_ghn()).coverage.notes if "zeros" in note] == told
    assert not [note for note in predict(tmp_path / "full.onnx", ghn=tiny_ghn()).coverage.notes if "zeros" in note]
    inherited = predict(bare, ghn=tiny_ghn(), donors=[tmp_path / "full.onnx"])
    assert not [note for note in inherited.coverage.notes if "zeros" in note]
