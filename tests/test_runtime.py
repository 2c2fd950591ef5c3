"""Sessions that are never there: the wait ends, with one line, whatever onnxruntime does."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from onnx_ghn import runtime
from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.runtime import open_session, run_session


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """y = x + the mean of a product of constants, which is folded."""
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["a"], value=numpy_helper.from_array(np.array([0.5], np.float32))),
        helper.make_node("MatMul", ["a", "a"], ["b"]),
        helper.make_node("ReduceMean", ["b"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    ends = [[helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2])] for name in "xy"]
    graph = helper.make_graph(nodes, "g", *ends, [numpy_helper.from_array(np.array([8, 8]), "s")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_a_refusal_is_its_reason_alone(tmp_path: Path) -> None:
    ends = [[helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2])] for name in "xy"]
    graph = helper.make_graph([helper.make_node("NoSuchOperator", ["x"], ["y"])], "g", *ends)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    with pytest.raises(RuntimeFailure, match=r"^onnxruntime cannot load m\.onnx: .*NoSuchOperator") as caught:
        open_session(tmp_path / "m.onnx")
    assert str(tmp_path) not in str(caught.value)
    assert "ONNXRuntimeError" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_session_is_made_in_time(path: Path) -> None:
    (found,) = run_session(open_session(path), {"x": np.array([1, 2], np.float32)})
    np.testing.assert_allclose(found, [3, 4])
    assert not [thread for thread in threading.enumerate() if thread.name == "onnx-ghn session"]


@pytest.mark.parametrize("heeds", [True, False])
def test_a_session_that_takes_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch, heeds: bool) -> None:
    """A stand-in that sleeps, until it is cancelled or whatever it is told."""
    over = threading.Event()
    told = []

    class Slow:
        def __init__(self, path: str, options: onnxruntime.SessionOptions, providers: list[str]) -> None:
            over.wait(30)

    def cancel(options: onnxruntime.SessionOptions) -> None:
        told.append(options)
        if heeds:
            over.set()

    monkeypatch.setattr(onnxruntime, "InferenceSession", Slow)
    monkeypatch.setattr(runtime, "_cancel", cancel)
    monkeypatch.setattr(runtime, "_MAX_RUN_S", 0.3)
    began = time.perf_counter()
    try:
        with pytest.raises(RuntimeFailure, match=r"cannot load m\.onnx: still folds its constants after 0\.3 s"):
            open_session(path)
        assert time.perf_counter() - began < 10
        assert isinstance(told[0], onnxruntime.SessionOptions)
    finally:
        over.set()


def test_what_onnxruntime_says_comes_through(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    for name in ("bad.onnx", "absent.onnx"):
        with pytest.raises(RuntimeFailure, match=f"cannot load {name}"):
            open_session(tmp_path / name)

    class Breaks:
        def __init__(self, *arguments: object, **more: object) -> None:
            raise MemoryError("no room")

    monkeypatch.setattr(onnxruntime, "InferenceSession", Breaks)
    with pytest.raises(RuntimeFailure, match=r"cannot load m\.onnx: no room"):
        open_session(path)


def test_a_cancelled_session_stops() -> None:
    """onnxruntime itself heeds the flag that is set."""
    options = onnxruntime.SessionOptions()
    runtime._cancel(options)
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g",
        *[[helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2])] for name in "xy"],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    with pytest.raises(runtime.failures(), match=r"(?i)cancel"):
        onnxruntime.InferenceSession(model, options)


def test_sessions_that_run_once_do_without_the_rewrite_that_ends_processes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []
    real = onnxruntime.InferenceSession

    def made(*arguments: Any, **options: Any) -> onnxruntime.InferenceSession:
        given.append(options)
        return real(*arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", made)
    open_session(path, packed=False)
    open_session(path)
    assert [options.get("disabled_optimizers") for options in given] == [
        ["FuseFp16InitializerToFp32NodeTransformer"],
        None,
    ]
