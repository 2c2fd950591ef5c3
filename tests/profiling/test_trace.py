"""Times from onnxruntime's trace."""

from __future__ import annotations

import json

import cli_models as models
import numpy as np
import pytest

from onnx_ghn.cli.profile_tables import operators_table
from onnx_ghn.profiling.operators import measured_operators
from onnx_ghn.profiling.trace import read_trace


def event(name: str, ts: int, dur: int, index: int = 0, tid: int = 1) -> dict:
    args = {"op_name": name.split("_")[0], "node_index": str(index), "provider": "CPUExecutionProvider"}
    args |= {"input_type_shape": [{"float": [2, 3]}], "output_type_shape": [{"float": [2, 4]}]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "tid": tid, "args": args}


def run(ts: int, dur: int) -> dict:
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": dur, "tid": 1, "args": {}}


def test_own_times() -> None:
    """A loop of 100 µs with bodies of 30 and 20; the first run is skipped; what begins at an end is not inside."""
    events = [run(0, 90), event("Loop_1", 1, 80, 7)]
    events += [run(100, 150), event("MatMul_1", 221, 20, 8), event("Loop_1", 101, 100, 7)]
    events += [event("Add_1", 110, 30, 9), event("Add_1", 150, 20, 9), event("Relu_1", 201, 20, 10)]
    events += [run(300, 50), event("Loop_1", 300, 40, 7), event("Add_1", 310, 10, 9)]
    found = read_trace(events, skip=1)
    assert found.runs_us == [150.0, 50.0]
    times = {node.name: (node.op_type, node.runs_us, node.calls) for node in found.nodes}
    assert times == {
        "Loop_1": ("Loop", [50.0, 30.0], 2),
        "Add_1": ("Add", [50.0, 10.0], 3),
        "Relu_1": ("Relu", [20.0, 0.0], 1),
        "MatMul_1": ("MatMul", [20.0, 0.0], 1),
    }
    (((inputs, outputs), _),) = found.nodes[0].shapes.items()
    assert inputs == (("float", (2, 3)),)
    assert outputs == (("float", (2, 4)),)
    assert len(found.events) == 2 + 7  # two runs, and all nodes but the skipped one


def test_threads_do_not_hold_each_other() -> None:
    found = read_trace([run(0, 100), event("A_1", 0, 100, 1), event("B_1", 10, 50, 2, tid=2)])
    assert {node.name: node.runs_us for node in found.nodes} == {"A_1": [100.0], "B_1": [50.0]}


def test_loops_of_a_real_trace_are_counted_once(save, tmp_path) -> None:
    """Nodes inside Loop and Scan: all own times together are the outer nodes' times, never more than the run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "trace")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(save(models.loops()), options, providers=["CPUExecutionProvider"])
    feed = {}
    for given in session.get_inputs():
        shape = [dim if isinstance(dim, int) else 1 for dim in given.shape]
        feed[given.name] = np.ones(shape, np.float32 if "float" in given.type else bool)
    for _ in range(5):
        session.run(None, feed)
    with open(session.end_profiling(), encoding="utf-8") as file:
        events = json.load(file)
    found = read_trace(events)
    names = {node.op_type for node in found.nodes}
    assert {"Loop", "Scan", "MatMul"} <= names
    inner = [node for node in found.nodes if node.calls > 5]
    assert inner, "a body runs more than once a run"
    for number, whole in enumerate(found.runs_us):
        assert sum(node.runs_us[number] for node in found.nodes) <= whole + len(found.nodes)
    kernels = [e for e in events if e["cat"] == "Node" and e["name"].endswith("_kernel_time")]
    assert sum(e["dur"] for e in kernels) > sum(sum(node.runs_us) for node in found.nodes)
    assert sum(node.calls for node in found.nodes) == len(kernels)


@pytest.mark.parametrize("events", [[], [event("A_1", 0, 10)]])
def test_no_runs(events) -> None:
    assert read_trace(events).runs_us == []
    assert read_trace(events).nodes == []


def kernel(name: str, dur: int, **args: str) -> dict:
    """On the device, by a clock that need not agree with the processor's."""
    return {"cat": "Kernel", "name": name, "ts": 5_000, "dur": dur, "pid": -1, "tid": -1, "args": args}


def test_kernels_belong_to_the_node_before_them() -> None:
    """Two kernels of a convolution and one of a product in two runs; one that nobody launched; a warm-up before."""
    events = [
        run(0, 90),
        event("Conv_1", 1, 5, 1),
        kernel("warm", 700, op_name="Conv", parent_name="Conv_1_kernel_time"),
    ]
    for ts, factor in ((100, 1), (200, 2)):
        events += [run(ts, 80), event("Conv_1", ts + 1, 5, 1)]
        events += [kernel("im2col", 10 * factor, op_name="Conv", parent_name="Conv_1_kernel_time")]
        events += [event("MatMul_1", ts + 10, 5, 2), kernel("sgemm", 20 * factor, op_name="MatMul")]
        events += [kernel("winograd", 30 * factor, op_name="Conv", parent_name="Conv_1_kernel_time")]
        events += [event("Shape_1", ts + 20, 5, 3), kernel("stray", 900, stream="7")]
    found = read_trace(events, skip=1)
    assert {node.name: node.device_us for node in found.nodes} == {
        "Conv_1": [40.0, 80.0],
        "MatMul_1": [20.0, 40.0],
        "Shape_1": [0.0, 0.0],
    }
    assert {node.name: node.runs_us for node in found.nodes}["Conv_1"] == [5.0, 5.0]
    assert sum(one.get("cat") == "Kernel" for one in found.events) == 6
    profiled = measured_operators(found, [], None)
    assert profiled.device_ms == pytest.approx(0.090)  # (40 + 80) / 2 + (20 + 40) / 2 microseconds
    assert profiled.device_coverage == pytest.approx(90 / 80)
    assert [operator.share for operator in profiled.operators] == pytest.approx([60 / 90, 30 / 90, 0.0])
    table = operators_table(profiled, 5)
    assert [str(column.header) for column in table.columns][3:5] == ["on device", "p50"]
    assert list(table.columns[3].cells) == ["0.060", "0.030", "0.000"]


def test_without_kernels_nothing_is_told_of_a_device() -> None:
    found = read_trace([run(0, 100), event("A_1", 0, 100, 1)])
    assert found.nodes[0].device_us is None
    profiled = measured_operators(found, [], None)
    assert (profiled.device_ms, profiled.operators[0].device_p50_ms) == (None, None)
    assert profiled.operators[0].share == 1.0
