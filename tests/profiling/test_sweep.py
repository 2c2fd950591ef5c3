"""Sweeps: each point in a process of its own, failures told and the rest kept."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any

import cli_models as models
import numpy as np
import onnx
import pytest
from graph_models import Net
from onnx import TensorProto, helper

from onnx_ghn import measure_latency, profile
from onnx_ghn.errors import ModelWriteError, OptionError, RuntimeFailure
from onnx_ghn.onnx_io import write_file
from onnx_ghn.profiling import export, processes
from onnx_ghn.profiling.settings import Settings

FAST = Settings(warmup=1, iterations=3)
WHOLE = Settings(warmup=1, iterations=3, operators=False)


def endless() -> onnx.ModelProto:
    """A Loop whose condition is always true."""

    def value(name: str, kind: int, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Sin", ["s"], ["s2"])],
        "body",
        [value("i", TensorProto.INT64), value("c", TensorProto.BOOL), value("s", TensorProto.FLOAT, 1)],
        [value("c2", TensorProto.BOOL), value("s2", TensorProto.FLOAT, 1)],
    )
    net = Net()
    x = net.input(1)
    return net.model(net.op("Loop", "", net.number(True, np.bool_), x, body=body))


def test_a_whole_sweep(save) -> None:
    seen: list[tuple[str, int, int]] = []
    path = save(models.conv_net())
    report = profile(
        path,
        batch=[1, 3],
        threads=[1],
        streams=[2],
        settings=FAST,
        trace=True,
        progress=lambda *told: seen.append(told),
    )
    assert report.errors == []
    assert [(point.batch, point.point.streams) for point in report.points] == [(1, 2), (3, 2)]
    assert all(point.latency.n_runs == 3 for point in report.points)
    macs = [point.operators.macs for point in report.points]
    assert macs == [macs[0], 3 * macs[0]]
    assert all(point.machine == report.points[0].machine for point in report.points)
    assert report.points[0].machine.peak_flops > 1e8
    assert [(done, total) for label, done, total in seen if "peak" not in label] == [(0, 2), (1, 2)]
    # Everything is JSON, and a file of each kind holds what the report does.
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["points"][1]["latency"]["p50_ms"] == report.points[1].latency.p50_ms
    rows = list(csv.DictReader(io.StringIO(export.points_csv(report))))
    assert [float(row["p99_ms"]) for row in rows] == [point.latency.p99_ms for point in report.points]
    assert [row["batch"] for row in rows] == ["1", "3"]
    rows = list(csv.DictReader(io.StringIO(export.operators_csv(report))))
    assert sum(int(row["macs"]) for row in rows) == sum(macs)
    assert sum(float(row["mean_ms"]) for row in rows[: len(report.points[0].operators.operators)]) == pytest.approx(
        report.points[0].operators.operators_ms
    )
    events = json.loads(export.trace_json(report))["traceEvents"]
    assert {event["pid"] for event in events} == {1, 2}
    assert [e["args"]["name"] for e in events if e["ph"] == "M"] == [point.point.label for point in report.points]


def test_what_was_measured_is_kept(save) -> None:
    """A provider that this machine lacks, in the middle of a sweep."""
    import onnxruntime

    absent = next(name for name in onnxruntime.get_all_providers() if name not in onnxruntime.get_available_providers())
    report = profile(save(models.conv_net()), provider=[absent, "cpu"], threads=[1], settings=WHOLE)
    assert [point.error is None for point in report.points] == [False, True]
    assert f"{absent} is not in this build of onnxruntime" in report.errors[0]
    assert report.points[1].latency.n_runs == 3
    row = next(csv.DictReader(io.StringIO(export.points_csv(report))))
    assert row["p50_ms"] == ""
    assert "install one that has it" in row["error"]


def test_a_run_that_never_ends(save) -> None:
    settings = Settings(seconds=1, operators=False, timeout_s=3)
    report = profile(save(endless()), threads=[1], settings=settings)
    assert report.errors == ["CPU, 1 thread: still runs after 3 s; raise `timeout_s` or choose a smaller shape"]


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import os; os.abort()", "onnxruntime crashed (SIGABRT"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by the system, as for want of memory"),
        ("raise ValueError('odd')", "the measuring process failed: ValueError: odd"),
        ("raise MemoryError('x')", "out of memory"),
    ],
)
def test_whatever_happens_to_a_process_is_one_line(monkeypatch, program, words) -> None:
    monkeypatch.setattr(processes, "_PROGRAM", program)
    with pytest.raises(RuntimeFailure) as caught:
        processes.run_job(print, (), 60)
    assert words in str(caught.value)


def test_an_interrupt_keeps_what_was_measured(save, monkeypatch) -> None:
    calls = 0
    run_job = processes.run_job

    def interrupted(*job: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return run_job(*job, **options)

    monkeypatch.setattr(processes, "run_job", interrupted)
    report = profile(save(models.conv_net()), batch=[1, 2, 3], threads=[1], settings=WHOLE)
    assert report.interrupted
    assert [point.batch for point in report.points] == [1]
    assert report.points[0].latency is not None


def test_estimates_run_nothing(save, monkeypatch) -> None:
    kinds: list[str] = []
    run_job = processes.run_job

    def recorded(function: Callable[..., Any], *job: Any, **options: Any) -> Any:
        kinds.append(function.__name__)
        return run_job(function, *job, **options)

    monkeypatch.setattr(processes, "run_job", recorded)
    report = profile(save(models.conv_net()), batch=[2], threads=[1], estimate=True)
    assert kinds == ["measure_machine", "estimate_point"]
    (point,) = report.points
    assert point.latency is None
    assert point.operators.macs == 2 * (8 * 8 * 8 * 3 * 9 + 8 * 8 * 8 * 8 * 9 + 8 * 10)
    assert point.operators.estimate_ms > 0
    assert point.operators.unknown == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"provider": ["abacus"]}, "onnxruntime knows"),
        ({"batch": [0]}, "must be 1 or more"),
        ({"optimization": ["most"]}, "choose of none, basic, extended, all"),
        ({"settings": Settings(shapes={"z": (1,)})}, "no input 'z'"),
        ({"settings": Settings(custom_op_libraries=("/absent.so",))}, "is no file"),
        ({"compare_outputs": True}, "needs a second model"),
    ],
)
def test_bad_options(save, options, words) -> None:
    with pytest.raises(OptionError, match=words):
        profile(save(models.conv_net()), **options)


@pytest.mark.parametrize(
    "options", [{"seconds": 0}, {"iterations": 0}, {"warmup": -1}, {"timeout_s": 0}, {"pin": (999,)}]
)
def test_bad_settings(options) -> None:
    with pytest.raises(OptionError):
        Settings(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 8}, "`batch` 8: takes several values; write [8]"),
        ({"threads": 1}, "`threads` 1: takes several values; write [1]"),
        ({"provider": "cpu"}, "`provider` 'cpu': takes several values; write ['cpu']"),
        ({"optimization": "all"}, "`optimization` 'all': takes several values; write ['all']"),
        ({"shapes": {"x": (1, 3, 8, 8)}}, "`shapes`: that of x takes several shapes; write [(1, 3, 8, 8)]"),
        ({"settings": {"iterations": 3}}, "`settings` is a dict; make it by onnx_ghn.profiling.Settings"),
    ],
)
def test_one_value_where_several_are_taken_is_told(save, options: dict[str, Any], words: str) -> None:
    """The letters of a text were taken for providers, and a number ended in an error of Python's."""
    with pytest.raises(OptionError, match=f"^{re.escape(words)}$"):
        profile(save(models.conv_net()), estimate=True, **options)


def test_quick_latency(save) -> None:
    found = measure_latency(save(models.conv_net()), batch=4, iterations=5)
    assert found["n_runs"] == 5
    assert found["min_ms"] <= found["p50_ms"] <= found["p99_9_ms"] <= found["max_ms"]
    assert found["items_per_s"] == pytest.approx(4 * found["runs_per_s"])
    assert found["session_creation_ms"] > 0
    assert "samples_ms" not in found


def test_files_appear_whole(tmp_path) -> None:
    file = write_file(tmp_path / "a.csv", "one")
    with pytest.raises(ModelWriteError, match="`force`"):
        write_file(file, "two")
    assert file.read_text() == "one"
    assert write_file(file, b"two", force=True).read_text() == "two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.csv"]
