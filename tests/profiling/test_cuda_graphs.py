"""Replays of CUDA graphs, with the CPU's provider in the place of CUDA's: what is bound, and what is told."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

import cli_models as models
import numpy as np
import pytest

from onnx_ghn import profile
from onnx_ghn.cli import profile_tables
from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.profiling import bound_runs, cuda_graphs, measuring
from onnx_ghn.profiling.bound_runs import compare_bound
from onnx_ghn.profiling.cuda_graphs import check_graphs
from onnx_ghn.profiling.export import points_csv
from onnx_ghn.profiling.gpu_meter import GpuMeter
from onnx_ghn.profiling.measuring import measure_point, open_runnable
from onnx_ghn.profiling.report import DeviceMemory, Energy, PointResult, ProfileReport
from onnx_ghn.profiling.sessions import timed_session
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import model_spec

CUDA = "CUDAExecutionProvider"
POINT = Point(provider=CUDA)
GRAPH = Settings(iterations=25, warmup=0, cuda_graph=True, operators=False)


class Recorded:
    """Sessions on the CPU that stand for CUDA's, and the options of each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.options: list[tuple[tuple[str, str, str], ...]] = []
        self.sessions: list[Any] = []
        for module in (measuring, cuda_graphs):
            monkeypatch.setattr(module, "timed_session", self.session)
        monkeypatch.setattr(bound_runs, "device_of", lambda provider, device: ("cpu", 0))

    def session(self, model: Any, point: Point, settings: Settings, **more: Any) -> tuple[Any, float]:
        self.options.append(settings.provider_option)
        plain = dataclasses.replace(settings, provider_option=())
        session, creation_ms = timed_session(model, Point(), plain, **more)
        watched = Watched(session)
        self.sessions.append(watched)
        return watched, creation_ms


class Watched:
    """A session that keeps the addresses that its bound runs have read and written, and their options."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.bindings: list[Any] = []
        self.addresses: list[list[int]] = []
        self.run_options: list[Any] = []
        self.run, self.get_outputs = session.run, session.get_outputs

    def io_binding(self) -> Any:
        self.bindings.append(self._session.io_binding())
        return self.bindings[-1]

    def run_with_iobinding(self, binding: Any, options: Any = None) -> None:
        self._session.run_with_iobinding(binding, options)
        self.run_options.append(options)
        self.addresses.append([value.data_ptr() for value in binding.get_outputs()])


def test_a_graph_reads_and_writes_fixed_addresses(save, monkeypatch) -> None:
    recorded = Recorded(monkeypatch)
    path = save(models.conv_net())
    runnable = open_runnable(path, model_spec(path).inputs, POINT, GRAPH)
    binding, graph = compare_bound(runnable, POINT, GRAPH)
    assert recorded.options == [(), (("cuda", "enable_cuda_graph", "1"),)]
    plain, replaying = recorded.sessions
    assert len(replaying.addresses) == 1 + 1 + 25  # the run that records, the one that is compared, and the timed ones
    assert len({tuple(one) for one in replaying.addresses}) == 1
    assert {one.get_run_config_entry("gpu_graph_id") for one in replaying.run_options} == {"1"}
    assert set(plain.run_options) == {None}
    expected = runnable.session.run(None, runnable.feed)[0]
    np.testing.assert_array_equal(replaying.bindings[0].get_outputs()[0].numpy(), expected)
    assert (binding.n_pairs, graph.n_pairs) == (25, 25)
    assert graph.ratio == pytest.approx(graph.bound_p50_ms / graph.graph_p50_ms)
    assert graph.low <= graph.ratio <= graph.high
    assert graph.bound_p50_ms == binding.bound_p50_ms
    assert graph.capture_ms > 0
    assert graph.outputs_agree


def test_a_replay_that_computes_nothing_is_told(save, monkeypatch) -> None:
    """Its outputs would otherwise be those of the run that recorded."""
    recorded = Recorded(monkeypatch)
    path = save(models.conv_net())
    runnable = open_runnable(path, model_spec(path).inputs, POINT, GRAPH)
    whole = Watched.run_with_iobinding

    def idle(self: Watched, binding: Any, options: Any = None) -> None:
        if options is None or not self.run_options:  # plain sessions, and the run that records
            whole(self, binding, options)

    monkeypatch.setattr(Watched, "run_with_iobinding", idle)
    binding, graph = compare_bound(runnable, POINT, GRAPH)
    assert len(recorded.sessions) == 2
    assert not graph.outputs_agree
    point = PointResult(POINT, binding=binding, cuda_graph=graph)
    assert "its outputs are not those of the runs: do not trust it" in profile_tables.device_lines(point, 3)[1]


def test_providers_that_record_none_are_bound_alone(save) -> None:
    path = save(models.conv_net())
    runnable = open_runnable(path, model_spec(path).inputs, Point(), GRAPH)
    assert compare_bound(runnable, Point(), GRAPH)[1] is None


def test_a_model_that_cannot_be_recorded_is_told(save, monkeypatch) -> None:
    recorded = Recorded(monkeypatch)
    path = save(models.conv_net())
    runnable = open_runnable(path, model_spec(path).inputs, POINT, GRAPH)

    def refused(*given: Any, **more: Any) -> Any:
        raise RuntimeError("This session cannot use the graph capture feature as requested by the user")

    monkeypatch.setattr(cuda_graphs, "timed_session", refused)
    with pytest.raises(RuntimeFailure, match=r"record the runs as a CUDA graph: .*graph capture feature"):
        compare_bound(runnable, POINT, GRAPH)
    assert len(recorded.sessions) == 1


def test_options() -> None:
    check_graphs(GRAPH, ["CPUExecutionProvider", CUDA])
    off = Settings(provider_option=(("cuda", "enable_cuda_graph", "0"), ("cuda", "use_tf32", "1")))
    check_graphs(off, [CUDA])
    with pytest.raises(OptionError, match="`cuda_graph`: cpu records none"):
        check_graphs(GRAPH, ["CPUExecutionProvider"])
    with pytest.raises(OptionError, match="set `cuda_graph` instead"):
        check_graphs(Settings(provider_option=(("TensorRT", "trt_cuda_graph_enable", "1"),)), [CUDA])


class FakeGpu:
    """A GPU of a driver that is not here."""

    name, source, total_bytes = "Some GPU", "NVML", 80_000_000

    def __init__(self) -> None:
        self._used = iter((10_000_000, 14_000_000, 19_000_000, 99_000_000))
        self._energy = iter((5_000, 11_000))

    def used_bytes(self) -> int:
        return next(self._used)

    def process_bytes(self, pid: int) -> int | None:
        return None

    def energy_mj(self) -> int | None:
        return next(self._energy)


def test_what_is_told_of_a_point_on_a_gpu(save, monkeypatch) -> None:
    Recorded(monkeypatch)
    monkeypatch.setattr(measuring, "GpuMeter", lambda point: GpuMeter(point, lambda *_: (FakeGpu(), "")))
    path = save(models.conv_net())
    found = measure_point(path, model_spec(path).inputs, POINT, GRAPH)
    # The session that records comes behind the third reading, so that the graph's memory is not the point's.
    assert found.device_memory == DeviceMemory("Some GPU", "NVML", 80_000_000, 10_000_000, 14_000_000, 19_000_000, None)
    wall_s = found.latency.wall_s
    expected = Energy(1, pytest.approx(6.0), pytest.approx(6 / wall_s), pytest.approx(6e3 / 25))
    assert found.device_energy == expected
    headers = [str(column.header) for column in profile_tables.latency_table([found]).columns]
    assert headers[-4:] == ["GPU memory", "on device", "copies", "CUDA graph"]
    cells = [next(iter(column.cells)) for column in profile_tables.latency_table([found]).columns[-4:]]
    shown = [profile_tables.ms(one) for one in (found.binding.bound_p50_ms, found.binding.copies_ms)]
    assert cells == ["9 MiB", *shown, profile_tables.ms(found.cuda_graph.graph_p50_ms)]
    lines = profile_tables.device_lines(found, 3)
    for words in (
        "replays of a CUDA graph",
        "Some GPU (NVML): 19 MB of 80 MB in use behind the runs, 10 MB before",
        "240 mJ a run",
        "(the whole GPU, by NVML)",
    ):
        assert any(words in line for line in lines), words
    report = ProfileReport(path, 1, 1, GRAPH, {}, (found,))
    header, row = points_csv(report).splitlines()
    told = dict(zip(header.split(","), row.split(","), strict=False))
    assert told["device_memory.peak_bytes"] == "19000000"
    assert told["cuda_graph.graph_p50_ms"] == str(found.cuda_graph.graph_p50_ms)
    assert told["device_energy.joules"] == "6.0"
    assert report.to_dict()["points"][0]["cuda_graph"]["n_pairs"] == 25


def test_points_on_the_cpu_have_no_columns_of_a_device(save) -> None:
    report = profile(save(models.conv_net()), threads=[1], settings=Settings(iterations=2, operators=False))
    table = profile_tables.latency_table(report.points)
    assert not {"GPU memory", "on device", "CUDA graph"} & {str(column.header) for column in table.columns}
    assert types.SimpleNamespace(**report.to_dict()["points"][0]).device_memory is None
