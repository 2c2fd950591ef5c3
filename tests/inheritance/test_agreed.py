"""A model and what a tool made of it inherit from each other exactly, though the tool took the exporter's marks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnx_ghn import predict
from onnx_ghn.graph.builder import read_graph
from onnx_ghn.inheritance.agreed import with_agreed
from onnx_ghn.passes import open_model
from onnx_ghn.runtime import open_session

WIDTH, LENGTH = 12, 6


def _attention(weights: dict[str, np.ndarray], *, marked: bool, scale: float = 0.2) -> onnx.ModelProto:
    """Attention with turned queries and keys, whose scores are scaled.

    Args:
        scale: of the scores.
        marked: as torch's first exporter writes it, which stores what the code makes by Constant nodes; else as a tool
            does that knows initializers alone.
    """
    made = {
        "turn": np.cos(np.arange(LENGTH * WIDTH)).reshape(LENGTH, WIDTH).astype(np.float32),
        "scale": np.full((), scale, np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q0"]),
        helper.make_node("MatMul", ["x", "wk"], ["k0"]),
        helper.make_node("MatMul", ["x", "wv"], ["v"]),
        helper.make_node("Mul", ["q0", "turn"], ["q1"]),
        helper.make_node("Mul", ["k0", "turn"], ["k1"]),
        helper.make_node("Transpose", ["k1"], ["k"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q1", "k"], ["s0"]),
        helper.make_node("Mul", ["s0", "scale"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"]),
        helper.make_node("MatMul", ["p", "v"], ["h"]),
        helper.make_node("MatMul", ["h", "wo"], ["y"]),
    ]
    if marked:
        constants = [helper.make_node("Constant", [], [n], value=numpy_helper.from_array(a)) for n, a in made.items()]
        nodes, stored, producer = [*constants, *nodes], weights, "pytorch"
    else:  # tools add an axis to single numbers, too
        stored, producer = {**weights, **made, "scale": made["scale"].reshape(1)}, "tool"
    info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2, LENGTH, WIDTH]) for n in ("x", "y")]
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], tensors)
    return helper.make_model(graph, producer_name=producer, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _weights(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 3 for name in ("wq", "wk", "wv", "wo")}


@pytest.mark.parametrize("marked", [True, False])
def test_outputs_come_back_whichever_of_both_has_the_marks(marked: bool, tmp_path: Path) -> None:
    donor, target, written = (tmp_path / name for name in ("donor.onnx", "target.onnx", "out.onnx"))
    onnx.save(_attention(_weights(0), marked=not marked), donor)
    onnx.save(_attention(_weights(1), marked=marked), target)
    found = predict(target, written, donors=[donor])
    x = np.random.default_rng(2).standard_normal((2, LENGTH, WIDTH)).astype(np.float32)
    (expected,), (given,) = (open_session(path).run(None, {"x": x}) for path in (donor, written))
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)
    assert found.inheritance is not None
    assert found.inheritance.is_exact


@pytest.mark.parametrize("target_marked", [True, False])
@pytest.mark.parametrize("donor_marked", [True, False])
def test_queries_make_up_for_scales_that_nothing_marks(donor_marked: bool, target_marked: bool, tmp_path: Path) -> None:
    """jax2onnx stores the scale of scores beside the weights; heads of another width have another one."""
    donor, target, written = (tmp_path / name for name in ("donor.onnx", "target.onnx", "out.onnx"))
    onnx.save(_attention(_weights(0), marked=donor_marked, scale=0.2), donor)
    onnx.save(_attention(_weights(1), marked=target_marked, scale=0.4), target)
    found = predict(target, written, donors=[donor])
    np.testing.assert_allclose(found["wq"], _weights(0)["wq"] / 2, rtol=1e-6)
    np.testing.assert_array_equal(found["wk"], _weights(0)["wk"])
    x = np.random.default_rng(2).standard_normal((2, LENGTH, WIDTH)).astype(np.float32)
    (expected,), (given,) = (open_session(path).run(None, {"x": x}) for path in (donor, written))
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)
    assert found.inheritance is not None
    assert found.inheritance.is_exact, found.inheritance.doubts


def test_another_value_is_no_constant_of_both() -> None:
    marked, bare = (open_model(_attention(_weights(0), marked=each)) for each in (True, False))
    theirs, ours = (read_graph(each.model, each.stored, "onnx")[0] for each in (marked, bare))
    assert {row.name for row in ours.uncertain} == {"turn", "scale"}
    assert with_agreed((ours, bare.stored), [(theirs, marked.stored)]).uncertain == ()
    other = _attention(_weights(0), marked=True)
    other.graph.node[0].attribute[0].t.CopyFrom(numpy_helper.from_array(np.ones((LENGTH, WIDTH), np.float32), "turn"))
    changed = open_model(other)
    graph = read_graph(changed.model, changed.stored, "onnx")[0]
    left = with_agreed((ours, bare.stored), [(graph, changed.stored)])
    assert [row.name for row in left.uncertain] == ["turn"]
    assert "scale" in {row.name for row in left.constants}
    assert with_agreed((ours, bare.stored), []).uncertain == ours.uncertain
