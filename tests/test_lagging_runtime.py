"""Models that are newer than onnxruntime run if they use nothing new, and keep their versions in what is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.evaluate import onnx_logits
from onnx_ghn.ghn import GHNConfig, new_ghn
from onnx_ghn.prediction import predict
from onnx_ghn.profiling import profile
from onnx_ghn.profiling.pairs import compare_outputs
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import model_spec
from onnx_ghn.runtime import failures, open_session, run_session

NEWEST = onnx.defs.onnx_opset_version()
if NEWEST < 28:
    pytest.skip(f"onnx {onnx.__version__} knows no opset that is new to onnxruntime", allow_module_level=True)


def net(opset: int, ir_version: int, extra: str = "") -> onnx.ModelProto:
    """A convolution, a batch norm, a linear layer; `extra` stands between."""
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 3, 3, 3), "s": (8,), "b": (8,), "m": (8,), "v": (8,), "f": (4, 8), "g": (4,)}
    arrays = {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("BatchNormalization", ["a", "s", "b", "m", "v"], ["n"]),
        helper.make_node("GlobalAveragePool", ["n"], ["p"]),
        helper.make_node("Flatten", ["p"], ["q"]),
        helper.make_node(extra, ["q", "q"], ["e"]) if extra else helper.make_node("Relu", ["q"], ["e"]),
        helper.make_node("Gemm", ["e", "f", "g"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", 1, [1, 4])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


VERSIONS = [(27, 11), (28, 11), (NEWEST, onnx.IR_VERSION), (17, onnx.IR_VERSION)]


@pytest.mark.parametrize(("opset", "ir_version"), VERSIONS)
def test_what_runs_is_what_an_older_opset_gives(opset: int, ir_version: int, tmp_path: Path) -> None:
    feed = {"x": np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    results = []
    for name, version in (("new", (opset, ir_version)), ("old", (17, 9))):
        path = tmp_path / f"{name}.onnx"
        onnx.save(net(*version), path, save_as_external_data=True, location=f"{name}.data", size_threshold=0)
        results.append(run_session(open_session(path), feed)[0])
    np.testing.assert_array_equal(*results)
    import torch

    with onnx_logits(tmp_path / "new.onnx", device="cpu") as logits:
        np.testing.assert_allclose(logits(torch.from_numpy(feed["x"])).numpy(), results[1], rtol=1e-6)


@pytest.mark.parametrize(("opset", "ir_version"), VERSIONS)
def test_statistics_are_calibrated_and_the_file_keeps_its_opset(opset: int, ir_version: int, tmp_path: Path) -> None:
    network = new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(8, 8, 3, 3)), seed=0)
    found = predict(net(opset, ir_version), tmp_path / "new.onnx", ghn=network)
    assert found.coverage.notes == []
    predict(net(17, 9), tmp_path / "old.onnx", ghn=network)
    new, old = onnx.load(tmp_path / "new.onnx"), onnx.load(tmp_path / "old.onnx")
    assert (new.opset_import[0].version, new.ir_version) == (opset, ir_version)
    for mine, theirs in zip(new.graph.initializer, old.graph.initializer, strict=True):
        np.testing.assert_allclose(
            numpy_helper.to_array(mine), numpy_helper.to_array(theirs), rtol=1e-5, err_msg=mine.name
        )


@pytest.mark.parametrize(("opset", "ir_version"), VERSIONS[1:])
def test_a_profile_is_that_of_an_older_opset(opset: int, ir_version: int, tmp_path: Path) -> None:
    new, old = str(tmp_path / "new.onnx"), str(tmp_path / "old.onnx")
    onnx.save(net(opset, ir_version), new, save_as_external_data=True, location="new.data", size_threshold=0)
    onnx.save(net(17, 9), old)
    found = [profile(path, threads=[1], settings=Settings(warmup=1, iterations=3)) for path in (new, old)]
    assert [report.errors for report in found] == [[], []]
    kinds = [sorted(row.fused for row in report.points[0].operators.operators) for report in found]
    assert kinds[0] == kinds[1] != []
    compared = compare_outputs((new, old), model_spec(old).inputs, Point(), Settings())
    assert compared.first_divergence is None
    assert len(compared.rows) == 6


def test_an_operator_that_is_new_is_named(tmp_path: Path) -> None:
    onnx.save(net(28, 11, "SwiGLU"), tmp_path / "m.onnx")
    with pytest.raises(failures()) as told_by_it:
        onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    if "till opset" not in str(told_by_it.value):  # 1.32 knows the opset, and not all of its operators
        with pytest.raises(
            RuntimeFailure, match=r"onnxruntime cannot load m\.onnx: .*Could not find an implementation"
        ):
            open_session(tmp_path / "m.onnx")
        pytest.skip("this onnxruntime loads the newest opset")
    with pytest.raises(
        RuntimeFailure, match=r"opsets up to \d+, and node '' \(SwiGLU\) is of a newer one; update onnxruntime"
    ):
        open_session(tmp_path / "m.onnx")
    (told,) = profile(tmp_path / "m.onnx", settings=Settings(warmup=1, iterations=1)).errors
    assert "onnxruntime loads opsets up to " in told
    assert "node '' (SwiGLU) is of a newer one; update onnxruntime" in told
    network = new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(8, 8, 3, 3)), seed=0)
    (note,) = predict(tmp_path / "m.onnx", ghn=network).coverage.notes
    assert note.startswith("2 running statistics are kept: onnxruntime loads opsets up to ")
