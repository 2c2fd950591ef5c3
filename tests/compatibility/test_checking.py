"""What is said of models, by tool."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.cli.inspect import inspect as command
from onnx_ghn.compatibility.checking import find_behaviours, tools
from onnx_ghn.errors import ModelReadError, OptionError

node = helper.make_node


def save(path: Path, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], shape: list[int]) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def gru(path: Path, direction: str) -> Path:
    """One layer over five steps of four features."""
    rng = np.random.default_rng(0)
    n = 2 if direction == "bidirectional" else 1
    shapes = {"w": (n, 9, 4), "r": (n, 9, 3)}
    tensors = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), name) for name, s in shapes.items()]
    layer = node("GRU", ["x", "w", "r"], ["y"], "layer", direction=direction, hidden_size=3, linear_before_reset=1)
    return save(path, [layer], tensors, [5, 1, 4])


@pytest.mark.parametrize(
    ("direction", "wrong"),
    [("forward", set()), ("reverse", {"opencv", "mnn", "tract"}), ("bidirectional", set())],
)
def test_a_reverse_gru(tmp_path: Path, direction: str, wrong: set[str]) -> None:
    found = find_behaviours(gru(tmp_path / "m.onnx", direction))
    assert {one.behaviour.tool.key for one in found if one.behaviour.effect == "wrong"} == wrong
    assert all(one.nodes == ("layer",) for one in found)


@pytest.mark.parametrize(("tool", "version"), [("opencv", "5.0.0.93"), (" Tract ", "0.23.9"), ("mnn", "3.6.1")])
def test_one_tool(tmp_path: Path, tool: str, version: str) -> None:
    (found,) = find_behaviours(gru(tmp_path / "m.onnx", "reverse"), tool)
    assert found.text.endswith(f"{version} (2026-11-27) runs a reverse GRU forwards: node layer")


def test_all_tools(tmp_path: Path) -> None:
    """Three run it wrongly, and others refuse it, as the grid of runs has it."""
    found = find_behaviours(gru(tmp_path / "m.onnx", "reverse"), "all")
    refused = {one.behaviour.tool.key for one in found if one.behaviour.effect == "refused"}
    assert refused == {"tvm", "iree", "ncnn", "onnx2torch", "emx", "opencv-classic"}
    assert find_behaviours(gru(tmp_path / "m.onnx", "reverse"), "onnx2fx") == []


def test_nodes_of_bodies_are_looked_at(tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("Celu", ["x"], ["c"], "inside", alpha=2.0)],
        "b",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)],
    )
    true = numpy_helper.from_array(np.array(True), "true")
    choice = node("If", ["true"], ["y"], "choice", then_branch=body, else_branch=body)
    (found,) = find_behaviours(save(tmp_path / "m.onnx", [choice], [true], [3]), "tract")
    assert found.behaviour.what == "loses the factor of the negative part"
    assert found.nodes == ("inside", "inside")


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    path = gru(tmp_path / "m.onnx", "forward")
    with pytest.raises(OptionError, match=r"'caffe' is not in the table; take one of onnx, opencv, .* or all"):
        find_behaviours(path, "caffe")
    with pytest.raises(ModelReadError, match="no such file"):
        find_behaviours(tmp_path / "absent.onnx")


def test_each_tool_says_what_and_when() -> None:
    assert all(tool.version and tool.date == "2026-11-27" for tool in tools().values())


def test_the_command(tmp_path: Path) -> None:
    path = str(gru(tmp_path / "m.onnx", "reverse"))
    shown = CliRunner().invoke(command, [path, "--for", "tract"], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "tract 0.23.9" in shown.output
    assert "forwards" in shown.output
    answer = CliRunner().invoke(command, [path, "--for", "opencv", "--json"], catch_exceptions=False)
    (entry,) = json.loads(answer.output)
    assert (entry["effect"], entry["tool"]["version"], entry["nodes"]) == ("wrong", "5.0.0.93", ["layer"])
    nothing = CliRunner().invoke(command, [path, "--for", "onnx2fx"], catch_exceptions=False)
    assert "no proof that it runs" in nothing.output
