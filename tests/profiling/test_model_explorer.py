"""Node data for Model Explorer: times by node, in its own format."""

from __future__ import annotations

import json

import cli_models as models
import onnx
import pytest
from cli_tools import command, one_line

from onnx_ghn import profile
from onnx_ghn.profiling.model_explorer import node_data_json
from onnx_ghn.profiling.settings import Settings


def test_times_add_up(save) -> None:
    path = save(models.conv_net())
    report = profile(path, threads=[1], settings=Settings(iterations=3, warmup=0))
    told = json.loads(node_data_json(report))
    names = {node.name for node in onnx.load(path).graph.node}
    assert told["results"].keys() <= names
    covering = [one for one in report.points[0].operators.operators if one.covers]
    assert sum(one["value"] for one in told["results"].values()) == pytest.approx(sum(one.mean_ms for one in covering))
    # Conv, BatchNormalization and Relu are one operator, whose time is the Relu's.
    fused = next(one for one in covering if len(one.covers) > 1)
    assert told["results"][fused.covers[-1]]["value"] == pytest.approx(fused.mean_ms)
    assert not set(fused.covers[:-1]) & told["results"].keys()
    assert [stop["stop"] for stop in told["gradient"]] == [0, 1]
    assert told["name"] == "CPU, 1 thread (ms)"


def test_nodes_without_names(save) -> None:
    proto = models.conv_net()
    for node in proto.graph.node:
        node.name = ""
    told = json.loads(node_data_json(profile(save(proto), threads=[1], estimate=True)))
    places = {f"<node_{number}>" for number in range(len(proto.graph.node))}
    assert told["results"].keys() <= places
    assert f"<node_{len(proto.graph.node) - 1}>" in told["results"]
    assert told["name"] == "CPU, 1 thread (ms, estimated)"


def test_its_own_adapter_has_these_nodes(examples, tmp_path) -> None:
    main = pytest.importorskip("model_explorer_onnx.main")
    path = examples / "audio_m5.onnx"
    report = profile(path, threads=[1], estimate=True)
    told = json.loads(node_data_json(report))
    graphs = main.ONNXAdapter().convert(str(path), {})["graphs"]
    assert told["results"].keys() <= {node.id for node in graphs[0].nodes}


def test_command(save, tmp_path) -> None:
    path = save(models.conv_net())
    quick = ("--threads", "1", "--iterations", "3", "--warmup", "0")
    outcome = command("profile", path, *quick, "--node-data", tmp_path / "times.json")
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "times.json").read_text())["results"]
    one_line(command("profile", path, *quick, "--node-data", tmp_path / "t.csv"), ".json")
    one_line(command("profile", path, *quick, "--no-operators", "--node-data", tmp_path / "t.json"), "leave --no-op")
