"""Operators of real sessions: every node of the file is in one of them, and their work is the network's."""

from __future__ import annotations

import collections
from pathlib import Path

import cli_models as models
import numpy as np
import onnx
import pytest
from graph_models import Net

from onnx_ghn.profiling import rewriting
from onnx_ghn.profiling.measuring import measure_point
from onnx_ghn.profiling.report import Machine
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import model_spec

FAST = Settings(warmup=0, iterations=2)
MACHINE = Machine("CPUExecutionProvider", 1, 1e11, 1e10, 1e11, 1.0, 1 << 25)


def measured(path: str, point: Point | None = None, settings: Settings = FAST, **more):
    return measure_point(path, model_spec(path).inputs, point or Point(), settings, MACHINE, **more)


@pytest.mark.parametrize("optimization", ["none", "basic", "extended", "all"])
def test_a_convolutional_net(save, optimization) -> None:
    proto = models.conv_net()
    found = measured(save(proto), Point(batch=2, optimization=optimization))
    profile = found.operators
    assert found.error is None
    assert found.batch == 2
    covered = collections.Counter(name for operator in profile.operators for name in operator.covers)
    nodes = {node.name for node in proto.graph.node if node.op_type != "Constant"}
    assert set(covered) == nodes
    assert set(covered.values()) == {1}
    # stem 3 → 8 and block 8 → 8, 3 × 3 on 8 × 8; head 8 → 10; two images.
    assert profile.macs == 2 * (8 * 8 * 8 * 3 * 9 + 8 * 8 * 8 * 8 * 9 + 8 * 10)
    weights = 8 * 3 * 9 + 8 * 8 * 9 + 80 + 10
    assert profile.parameters == weights + (2 * 4 * 8 if optimization == "none" else 2 * 8)
    assert profile.parameter_bytes == 4 * profile.parameters
    assert profile.unknown == 0
    assert profile.operators_ms == pytest.approx(sum(operator.mean_ms for operator in profile.operators))
    assert profile.coverage == pytest.approx(profile.operators_ms / profile.run_ms)
    assert 0 < profile.coverage <= 1 + 0.001 * len(profile.operators) / profile.run_ms  # times are whole microseconds
    assert sum(operator.share for operator in profile.operators) == pytest.approx(1)
    for operator in profile.operators:
        assert operator.calls == 1
        assert operator.p10_ms <= operator.p50_ms <= operator.p90_ms
        if operator.bytes:
            bound = max(operator.flops / 1e11, operator.bytes / 1e11)  # it fits in the cache
            assert operator.estimate_ms == pytest.approx(bound * 1e3 + 1e-3)
    if optimization == "all":
        kinds = {operator.fused for operator in profile.operators if operator.macs}
        assert kinds == {"Conv+BatchNormalization+Relu", "Conv+BatchNormalization+Add+Relu", "Gemm"}


def test_nodes_without_names(save) -> None:
    """Each is found again in the trace all the same."""
    net = Net()
    x = net.linear(net.linear(net.input(3, 4), 4, 4, "w0"), 4, 5, "w1")
    proto = net.model(net.op("Relu", x))
    for node in proto.graph.node:
        node.name = ""
    profile = measured(save(proto), Point(optimization="none")).operators
    assert [operator.macs for operator in profile.operators] == [3 * 4 * 4, 3 * 4 * 5, 0]
    assert [operator.parameters for operator in profile.operators] == [16, 20, 0]
    assert [operator.bytes for operator in profile.operators] == [4 * (12 + 16 + 12), 4 * (12 + 20 + 15), 4 * 30]


def test_bodies_of_loops_count_their_calls(save) -> None:
    profile = measured(save(models.loops()), Point(optimization="none")).operators
    body = [operator for operator in profile.operators if operator.calls > 1]
    assert body
    # Loop runs twice over a product with 64 × 64 weights.
    inner = next(operator for operator in body if operator.op_type == "MatMul" and operator.calls == 2)
    assert inner.macs == 2 * 64 * 64


def test_a_model_is_left_alone_and_memory_is_told(save, tmp_path) -> None:
    path = save(models.conv_net())
    before = Path(path).read_bytes()
    found = measured(path)
    assert Path(path).read_bytes() == before
    assert [entry.name for entry in (tmp_path / "models").iterdir()] == ["m.onnx"]
    assert 0 < found.memory.baseline_bytes <= found.memory.peak_bytes
    assert found.memory.loaded_bytes <= found.memory.peak_bytes


def test_weights_in_external_data(save, tmp_path) -> None:
    import io_models as m

    folder = tmp_path / "external"
    folder.mkdir()
    m.save_external(m.mlp(), folder / "m.onnx")
    whole, outside = measured(save(m.mlp())), measured(str(folder / "m.onnx"))
    assert outside.operators.macs == whole.operators.macs > 0
    assert outside.operators.parameters == whole.operators.parameters > 0
    assert model_spec(str(folder / "m.onnx")).size_bytes > (folder / "m.onnx").stat().st_size


def test_a_fixed_batch_is_changed_in_memory(save) -> None:
    net = Net()
    path = save(net.model(net.linear(net.input(1, 4), 4, 5, "w")))
    found = measured(path, Point(batch=6))
    assert found.inputs[0].shape == (6, 4)
    assert found.operators.macs == 6 * 20
    assert "changed in memory" in found.notes[0]
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_examples_run_as_they_are(examples) -> None:
    """Files without weights, from several exporters; free dimensions are chosen so that they run."""
    for name in ("audio_m5", "lstm_text", "gpt_like", "convnet_flax"):
        found = measured(str(examples / f"{name}.onnx"))
        assert found.operators.macs > 0
        assert found.operators.unknown == 0
        # All but shape arithmetic and what onnxruntime puts in has nodes of the file behind it.
        bare = [operator for operator in found.operators.operators if not operator.covers]
        assert sum(operator.macs for operator in bare) == 0


def test_names_and_outputs_of_copies() -> None:
    proto = models.conv_net()
    assert not rewriting.name_nodes(proto)
    proto.graph.node[0].name = proto.graph.node[1].name = ""
    assert rewriting.name_nodes(proto)
    assert len({node.name for node in proto.graph.node}) == len(proto.graph.node)
    values = rewriting.expose_outputs(proto)
    assert [name for name, _ in values] == [name for node in proto.graph.node for name in node.output]
    assert len({value.name for value in proto.graph.output}) == len(values)


def test_trace_events(save) -> None:
    found = measured(save(models.conv_net()), trace=True)
    events = found.events
    n_nodes = len(found.operators.operators)
    assert len(events) == found.operators.repetitions * (n_nodes + 1)
    assert np.mean([e["dur"] for e in events if e["name"] == "model_run"]) / 1e3 == pytest.approx(
        found.operators.run_ms
    )
