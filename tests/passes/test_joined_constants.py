"""Constants that are joined to more than the memory holds, told before a runtime tries."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.passes import joined_constants
from onnx_ghn.passes.joined_constants import check_joined_constants


def doubled(n: int, *, read: bool = True, between: str = "Identity", within: bool = False) -> ir.Model:
    """32 bytes, joined with themselves n times, and read by a Reshape, or by one in the branches of an If."""
    nodes = []
    for i in range(n):
        nodes.append(helper.make_node(between, [f"c{i}"], [f"i{i}"]))
        nodes.append(helper.make_node("Concat", [f"i{i}", f"c{i}"], [f"c{i + 1}"], axis=0))
    nodes.append(helper.make_node("Reshape", ["x", f"c{n}"], ["y"]) if read else helper.make_node("Relu", ["x"], ["y"]))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    stored = [numpy_helper.from_array(np.full(4, 2, np.int64), "c0"), numpy_helper.from_array(np.array(True), "is")]
    if within:
        branch = helper.make_graph(nodes[-1:], "branch", [], [y])
        nodes[-1] = helper.make_node("If", ["is"], ["y"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    return ir.serde.deserialize_model(helper.make_model(graph))


def test_the_size_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined_constants, "memory_bytes", lambda: 32 << 10)
    check_joined_constants(doubled(10))  # 32 KiB
    with pytest.raises(RuntimeFailure, match=r"operator \S+ \(Concat\) joins constants to .*more than the memory"):
        check_joined_constants(doubled(11))
    with pytest.raises(RuntimeFailure, match=r"operator \S+ \(Concat\) joins constants to"):
        check_joined_constants(doubled(11, within=True))
    check_joined_constants(doubled(40, read=False, within=True))
    check_joined_constants(doubled(40, read=False))  # nobody computes it
    check_joined_constants(doubled(40, between="Neg"))  # what that gives is not looked at


def test_texts_have_no_size() -> None:
    nodes = [helper.make_node("Concat", ["c", "c"], ["d"], axis=0), helper.make_node("Equal", ["x", "d"], ["y"])]
    x, y = (
        helper.make_tensor_value_info(name, kind, None)
        for name, kind in (("x", TensorProto.STRING), ("y", TensorProto.BOOL))
    )
    texts = helper.make_tensor("c", TensorProto.STRING, [2], [b"a", b"bc"])
    graph = helper.make_graph(nodes, "g", [x], [y], [texts])
    check_joined_constants(ir.serde.deserialize_model(helper.make_model(graph)))


def test_sizes_beyond_any_number_of_a_machine() -> None:
    with pytest.raises(RuntimeFailure, match="joins constants to"):
        check_joined_constants(doubled(400))
