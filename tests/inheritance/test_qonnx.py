"""Channels are followed through QONNX's operators, which round what they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import onnx_ghn

_DOMAIN = "qonnx.custom_op.general"


def _net(width: int) -> onnx.ModelProto:
    """Two convolutions of 8 bits, whose data are rounded between them."""
    rng = np.random.default_rng(width)
    stored = {"zero": np.zeros(()), "bits": np.array(8.0), "a_scale": np.array(0.05)}
    nodes, given = [], "x"
    for i, (n_in, n_out) in enumerate(((3, width), (width, 4))):
        stored |= {f"w{i}": rng.standard_normal((n_out, n_in, 3, 3)), f"s{i}": np.full((n_out, 1, 1, 1), 0.02)}
        nodes.append(helper.make_node("Quant", [f"w{i}", f"s{i}", "zero", "bits"], [f"q{i}"], domain=_DOMAIN, signed=1))
        nodes.append(helper.make_node("Conv", [given, f"q{i}"], [f"c{i}"], pads=[1] * 4))
        if not i:
            nodes.append(helper.make_node("Relu", ["c0"], ["r"]))
            nodes.append(helper.make_node("Quant", ["r", "a_scale", "zero", "bits"], ["a"], domain=_DOMAIN, signed=0))
            given = "a"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", c, 8, 8]) for n, c in (("x", 3), ("c1", 4))]
    tensors = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in stored.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_DOMAIN, 1)]
    return helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors), opset_imports=opsets)


def test_a_wider_net_inherits_through_quantisers(tmp_path: Path) -> None:
    onnx.save(_net(8), tmp_path / "donor.onnx")
    donor = {tensor.name: numpy_helper.to_array(tensor) for tensor in _net(8).graph.initializer}
    prediction = onnx_ghn.predict(_net(16), donors=[tmp_path / "donor.onnx"])
    learned = [entry for entry in prediction.coverage.entries if not entry.parameter.uncertain]
    assert {entry.parameter.name: entry.outcome for entry in learned} == {"w0": "inherited", "w1": "inherited"}
    rows, columns = prediction["w0"], prediction["w1"]
    origins = [int(np.flatnonzero((donor["w0"] == row).all(axis=(1, 2, 3)))[0]) for row in rows]
    assert sorted(origins) == sorted(2 * [*range(8)])
    for channel in range(8):  # what reads copies shares what their original gave
        shared = columns[:, [i for i, origin in enumerate(origins) if origin == channel]].sum(axis=1)
        np.testing.assert_allclose(shared, donor["w1"][:, channel], rtol=1e-5, atol=1e-6)
