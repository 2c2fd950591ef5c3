"""Kernels in the blocks of channels that onnxruntime's highest optimisation writes: nobody else knows their order."""

from __future__ import annotations

import pytest
from graph_models import Net, parameters
from onnx import helper

import onnx_ghn
from onnx_ghn.graph import build_graph

NCHWC = "com.microsoft.nchwc"


@pytest.mark.parametrize("kernel", [(8, 8, 3, 3), (32, 8, 1, 1), (16, 4, 3, 3)])
def test_onnxruntimes_blocks_of_channels_stay(kernel: tuple[int, ...]) -> None:
    """The elements lie in another order than the shape says."""
    net = Net()
    groups = 8 // kernel[1]
    x = net.op("Conv", net.input(1, 3, 9, 9), net.weight(8, 3, 3, 3, name="first"))
    x = net.op("Conv", x, net.weight(*kernel, name="w"), net.weight(kernel[0], name="b"), domain=NCHWC, group=groups)
    proto = net.model(x)
    proto.opset_import.append(helper.make_opsetid(NCHWC, 1))
    found = parameters(build_graph(proto))
    assert found["w"].shape == kernel
    assert "blocks of channels" in found["w"].doubt
    prediction = onnx_ghn.predict(proto, calibrate="none", policy="all")
    assert set(prediction) == {"first"}
    assert {e.parameter.name: e.outcome for e in prediction.coverage.entries} == {
        "first": "predicted", "w": "kept", "b": "kept",
    }  # fmt: skip
