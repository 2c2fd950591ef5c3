"""Providers: names, devices, options, libraries, what is left to the CPU, and runs with I/O binding."""

from __future__ import annotations

import sys
import types
from typing import Any

import cli_models as models
import numpy as np
import onnx
import onnxruntime
import pytest
from cli_tools import command, one_line
from graph_models import Net

from onnx_ghn import installed_runtime, profile
from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.profiling import providers
from onnx_ghn.profiling.bound_runs import compare_bound
from onnx_ghn.profiling.measuring import open_runnable
from onnx_ghn.profiling.sessions import one_line_failures, timed_session
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import model_spec

CUDA = "CUDAExecutionProvider"
WHOLE = Settings(warmup=1, iterations=25, operators=False)


def added(point: Point, settings: Settings) -> Any:
    return providers.add_provider(onnxruntime.SessionOptions(), point, settings, one_line_failures)


def test_names_and_devices() -> None:
    settings = Settings()
    assert providers.named_device("cpu", settings) == ("CPUExecutionProvider", None)
    assert providers.named_device("CUDA:1", settings) == (CUDA, 1)
    assert Point(provider=CUDA, device=1).label == "CUDA:1, 1 thread"
    for text, words in (("cuda:x", "number of a device"), ("cpu:0", "no numbered devices"), ("cudda", "mean cuda")):
        with pytest.raises(OptionError, match=words):
            providers.named_device(text, settings)


def test_options_go_to_their_provider(monkeypatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    settings = Settings(provider_option=(("cuda", "use_tf32", "0"), ("tensorrt", "trt_fp16_enable", "1")))
    found = added(Point(provider=CUDA, device=2), settings)
    assert found == [(CUDA, {"use_tf32": "0", "device_id": "2"}), ("CPUExecutionProvider", {})]
    assert added(Point(), settings) == [("CPUExecutionProvider", {})]


def test_libraries_from_pip_are_loaded_for_cuda_alone(monkeypatch) -> None:
    calls: list[int] = []

    def loaded() -> None:
        calls.append(1)
        sys.stdout.write("Failed to load  libcudnn.so.9\n")

    monkeypatch.setattr(onnxruntime, "preload_dlls", loaded, raising=False)
    assert installed_runtime.preload_cuda(["CPUExecutionProvider"]) == ""
    assert calls == []
    assert installed_runtime.preload_cuda([CUDA, "CPUExecutionProvider"]) == "Failed to load libcudnn.so.9"
    assert calls == [1]


def test_a_library_brings_a_provider(monkeypatch, tmp_path) -> None:
    library = tmp_path / "libmine.so"
    library.write_bytes(b"")
    registered: list[tuple[str, str]] = []
    devices = [types.SimpleNamespace(ep_name="CPUExecutionProvider"), types.SimpleNamespace(ep_name="MineEP")]
    monkeypatch.setattr(
        onnxruntime, "register_execution_provider_library", lambda *told: registered.append(told), raising=False
    )
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: devices, raising=False)
    settings = Settings(provider_libraries=(str(library),), provider_option=(("mineep", "fast", "1"),))
    name, device = providers.named_device("MineEP:0", settings)
    chosen: list[Any] = []
    options = types.SimpleNamespace(add_provider_for_devices=lambda *told: chosen.append(told))
    for _ in range(2):  # the second session of a process registers nothing
        point = Point(provider=name, device=device)
        assert providers.add_provider(options, point, settings, one_line_failures) is None
    assert registered == [("libmine.so", str(library))]
    assert chosen == [([devices[1]], {"fast": "1"})] * 2
    with pytest.raises(RuntimeFailure, match="has 1 devices here, no number 3"):
        added(Point(provider="MineEP", device=3), settings)
    with pytest.raises(RuntimeFailure, match="no library brings the provider Other; with them there are CPUEx"):
        added(Point(provider="Other"), settings)


def test_a_provider_that_fails_is_not_replaced(save, monkeypatch) -> None:
    """onnxruntime's Python would go on with the CPU's provider."""
    made: list[dict[str, Any]] = []
    session = onnxruntime.InferenceSession

    def recorded(*arguments: Any, **options: Any) -> Any:
        made.append(options)
        return session(*arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", recorded)
    timed_session(save(models.conv_net()), Point(), Settings())
    assert made[0]["enable_fallback"] == 0


def test_bound_runs(save) -> None:
    report = profile(save(models.conv_net()), threads=[1], settings=Settings(iterations=25, io_binding=True))
    (point,) = report.points
    found = point.binding
    assert (found.device, found.n_pairs) == ("cpu", 25)
    assert found.copies_ms == pytest.approx(found.plain_p50_ms - found.bound_p50_ms)
    assert found.ratio == pytest.approx(found.plain_p50_ms / found.bound_p50_ms)
    assert found.low <= found.ratio <= found.high
    assert point.left_to_cpu is None  # it is the CPU's own
    assert report.to_dict()["points"][0]["binding"]["n_pairs"] == 25


def half_known() -> onnx.ModelProto:
    """An operator of onnxruntime's own between two that every provider has."""
    net = Net()
    x = net.op("MatMul", net.input(8, 8), net.weight(8, 8))
    apart = net.op("CDist", x, x, domain="com.microsoft", metric="euclidean")
    y = net.op("MatMul", net.op("Relu", apart), net.weight(8, 8, name="v"))
    model = net.model(y, shape=(8, 8))
    model.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, (8, 8)) for node in net.nodes
    )
    return model


def test_what_is_left_to_the_cpu(save) -> None:
    if "OpenVINOExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-openvino")
    path = save(half_known())
    told = (("openvino", "num_of_threads", "1"),)
    report = profile(path, provider=["openvino"], threads=[1], settings=Settings(iterations=5, provider_option=told))
    assert report.errors == []
    left = report.points[0].left_to_cpu
    name = next(node.name for node in onnx.load(path).graph.node if node.op_type == "CDist")
    assert f"CDist {name}" in left
    assert not any("Relu" in one for one in left)
    wrong = Settings(iterations=5, provider_option=(("openvino", "nonsense", "1"),))
    report = profile(path, provider=["openvino"], threads=[1], settings=wrong)
    assert "nonsense" in report.errors[0]


def test_left_to_the_cpu_is_told_by_name(save) -> None:
    import dataclasses

    (point,) = profile(save(half_known()), threads=[1], settings=Settings(iterations=3)).points
    operators = point.operators.operators
    elsewhere = tuple(
        dataclasses.replace(one, provider="CPUExecutionProvider" if one.op_type == "CDist" else CUDA)
        for one in operators
    )
    moved = dataclasses.replace(
        point,
        point=dataclasses.replace(point.point, provider=CUDA),
        operators=dataclasses.replace(point.operators, operators=elsewhere),
    )
    name = next(one.name for one in operators if one.op_type == "CDist")
    assert moved.left_to_cpu == (f"CDist {name}",)
    from onnx_ghn.cli.profile_tables import device_lines

    assert device_lines(moved, 3) == [f"CUDA, 1 thread: left to the CPU: CDist {name}"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--provider-option", "cuda"), "must be NAME.KEY=VALUE"),
        (("--provider-option", "cuda.x=1"), "cuda is not measured; --provider has cpu"),
        (("--provider-option", "cpu.x=1"), "takes no options"),
        (("--provider-library", "absent.so"), "is no file"),
        (("--provider-library", "text.so", "--provider", "mine"), "cannot be loaded"),
        (("--provider", "cuda:x"), "number of a device"),
        (("--provider", "cpu:1"), "no numbered devices"),
        (("--fail-above", "copies_ms=1"), "set --io-binding"),
        (("--fail-above", "capture_ms=1"), "set --cuda-graph"),
        (("--fail-above", "device_memory.peak_bytes=1", "--one-session"), "points share a process"),
        (("--cuda-graph",), "--cuda-graph: cpu records none; choose of cuda, tensorrt, nvtensorrtrtx in --provider"),
        (
            ("--provider", "cuda", "--provider-option", "cuda.enable_cuda_graph=1"),
            "fixed addresses, which plain runs have not; set --cuda-graph instead",
        ),
        (("--estimate", "--io-binding"), "--io-binding: an estimate runs nothing"),
        (("--estimate", "--provider", "cuda", "--cuda-graph"), "--cuda-graph: an estimate runs nothing"),
    ],
)
def test_bad_input(save, tmp_path, monkeypatch, options, words) -> None:
    path = save(models.conv_net())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.so").write_text("no library")
    quick = ("--threads", "1", "--iterations", "3", "--no-operators")
    one_line(command("profile", path, *quick, *options), words)


def test_a_run_with_binding_gives_what_a_plain_one_does(save) -> None:
    path = save(models.conv_net())
    runnable = open_runnable(path, model_spec(path).inputs, Point(), Settings())
    session = runnable.session
    bindings: list[Any] = []

    def io_binding() -> Any:
        bindings.append(session.io_binding())
        return bindings[-1]

    runnable.session = types.SimpleNamespace(
        io_binding=io_binding,
        get_outputs=session.get_outputs,
        run=session.run,
        run_with_iobinding=session.run_with_iobinding,
    )
    found, graph = compare_bound(runnable, Point(), Settings(iterations=1, warmup=0))
    assert (found.n_pairs, graph) == (1, None)
    (binding,) = bindings
    np.testing.assert_array_equal(binding.get_outputs()[0].numpy(), session.run(None, runnable.feed)[0])
