"""A model that keeps its state outside is run on noise: the state is that of the batch, and sound long enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn import predict, strip
from onnx_ghn.prediction.calibration_inputs import input_batches
from onnx_ghn.prediction.recurrent_states import state_inputs


def _detector(batch: Any, state_of: Any) -> onnx.ModelProto:
    """A detector of speech: one frame of 512 samples (B, T), and the state (2, B, 6) of an LSTM."""
    rng = np.random.default_rng(0)
    shapes = {"kernel": (6, 1, 512), "w": (1, 24, 6), "r": (1, 24, 6), "b": (1, 48), "out": (6, 1)}
    stored = [numpy_helper.from_array((rng.normal(0, 0.1, s)).astype(np.float32), n) for n, s in shapes.items()]
    stored += [
        numpy_helper.from_array(np.array(v, np.int64), n) for n, v in (("one", [1]), ("two", [2]), ("zero", [0]))
    ]
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["x1"]),
        helper.make_node("Conv", ["x1", "kernel"], ["frames"], strides=[512]),
        helper.make_node("Squeeze", ["frames", "two"], ["frame"]),  # of one frame alone
        helper.make_node("Unsqueeze", ["frame", "zero"], ["series"]),
        helper.make_node("Split", ["state"], ["h", "c"], axis=0, num_outputs=2),
        helper.make_node("LSTM", ["series", "w", "r", "b", "", "h", "c"], ["", "h1", "c1"], hidden_size=6),
        helper.make_node("Squeeze", ["h1", "zero"], ["last"]),
        helper.make_node("MatMul", ["last", "out"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, "samples"])
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, state_of, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "detector", [x, state], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize(("batch", "state_of"), [("batch", "batch"), (None, None), ("batch", 1)])
def test_outputs_are_compared_with_the_states_of_the_batch(batch: Any, state_of: Any, tmp_path: Path) -> None:
    donor = tmp_path / "donor.onnx"
    onnx.save(_detector(batch, state_of), donor)
    bare = strip(donor, tmp_path / "bare.onnx")
    notes = predict(bare, donors=[donor]).coverage.notes
    assert any("outputs of donor.onnx are kept" in note for note in notes), notes
    told = predict(donor, policy="all").coverage.notes
    assert not any("cannot run" in note for note in told), told


def test_states_are_told_by_their_sizes() -> None:
    assert state_inputs({"x": [0, 0], "h": [2, 0, 128], "c": [4, 1, 64], "rate": []}) == {"h", "c"}
    assert state_inputs({"x": [1, 576], "h": [2, 1, 128]}) == frozenset()  # all is given
    assert state_inputs({"x": [0, 3, 80]}) == frozenset()
    assert state_inputs({"x": [0, 9], "table": [2, 7, 5], "map": [2, 0, 0]}) == frozenset()


def test_fewer_samples_are_drawn_where_free_sizes_make_them_large() -> None:
    """A second of 256 features is 4 million numbers: none of the inputs that are tried has much more."""
    rounds = list(input_batches({"x": "tensor(float)"}, {"x": [0, 0, 256]}, "noise", 0, 32))
    lengths = [feeds[0]["x"].shape[1] for feeds in rounds]
    assert [*dict.fromkeys(lengths)] == [64, 1024, 16000, 16]
    assert max(sum(feed["x"].size for feed in feeds) for feeds in rounds) == 16000 * 256
