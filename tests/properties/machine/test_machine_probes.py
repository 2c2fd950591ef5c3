"""Probes run, are the same each time, and hold what published networks hold; their graphs have the shapes of runs."""

from __future__ import annotations

import onnx
import onnxruntime
import pytest

from onnx_ghn.profiling.rewriting import expose_outputs
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.trace import NodeTimes, RunTrace
from onnx_ghn.properties.machine.features import kind_and_sizes
from onnx_ghn.properties.machine.measured import Measured
from onnx_ghn.properties.machine.measuring import measure_probe, node_times
from onnx_ghn.properties.machine.probes import memory_probe, probe
from onnx_ghn.properties.machine.running import read_graph, write_graph

SMALL = (2, 3, 11, 40, 59)  # of each kind, and quick to run


@pytest.mark.parametrize("number", SMALL)
def test_shapes_are_those_of_a_run(number: int, tmp_path) -> None:
    """Every value of the graph as onnxruntime runs it, also those of its own operators and layouts."""
    one = probe(number)
    path = tmp_path / "optimized.onnx"
    write_graph(one.model, Point(threads=1), str(tmp_path), path)
    told = {
        value.name: value.shape
        for node in read_graph(path, Point(threads=1)).nodes
        for value in node.outputs
        if value is not None and value.is_sized
    }
    exposed = onnx.load(path)
    expose_outputs(exposed)
    del exposed.graph.value_info[:]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs() if output.name in told]
    assert len(names) > 5
    for name, array in zip(names, session.run(names, one.feed), strict=True):
        assert array.shape == told[name], name


def test_a_number_gives_the_same_network() -> None:
    assert probe(5).model == probe(5).model
    assert probe(5).model != probe(6).model


def test_all_kinds_come_early() -> None:
    assert {probe(number).kind for number in range(12)} == {"image", "tokens", "sound", "operators"}


def test_memory_probes_hold_their_weights() -> None:
    small, large = memory_probe(0), memory_probe(2)
    assert 2e6 < len(small.model) < len(large.model)
    assert "ConstantOfShape" not in {node.op_type for node in onnx.load_from_string(small.model).graph.node}


def test_operators_of_a_probe_are_measured(tmp_path) -> None:
    found = measure_probe(probe(2), Point(threads=1), tmp_path)
    assert (found.number, found.kind) == (2, "image")
    assert len(found.nodes) > 10
    assert all(us >= 0 for _, _, us in found.nodes)
    assert Measured.from_dict(found.to_dict()).to_dict() == found.to_dict()
    # The traced operators are most of a run, or more: tracing takes a while too.
    assert 0.3 * found.run_us < sum(us for _, _, us in found.nodes)


def test_times_are_those_of_the_runs_that_were_not_disturbed(tmp_path) -> None:
    """Of eight runs, by their whole time, the first three."""
    one = probe(2)
    path = tmp_path / "optimized.onnx"
    write_graph(one.model, Point(threads=1), str(tmp_path), path)
    graph = read_graph(path, Point(threads=1))
    node = next(node for node in graph.nodes if "Conv" in node.op_type)
    runs_us = [800.0, 100.0, 700.0, 200.0, 600.0, 300.0, 500.0, 400.0]
    times = NodeTimes(node.name, node.op_type, "", 0, [value / 10 for value in runs_us], 8, {})
    (found,) = node_times(graph, RunTrace([times], runs_us, []))
    assert found == (*kind_and_sizes(node), pytest.approx((10 + 20 + 30) / 3))


def test_what_a_run_streams_leaves_tables_out(tmp_path) -> None:
    from net_models import embedding_and_product

    path = tmp_path / "m.onnx"
    path.write_bytes(embedding_and_product(rows=100, width=8, outputs=5))
    write_graph(str(path), Point(threads=1, optimization="none"), str(tmp_path), tmp_path / "o.onnx", Settings())
    graph = read_graph(tmp_path / "o.onnx", Point(threads=1))
    assert graph.streamed_bytes == 8 * 5 * 4
    assert sum(value.n_bytes for value in graph.constants) == (100 * 8 + 8 * 5) * 4
