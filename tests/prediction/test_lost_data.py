"""A file whose external data are lost: what needs shapes alone works as before, what needs values says which."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from predict_models import Net, arrays, cnn, mlp, tiny_ghn

import onnx_ghn
from onnx_ghn import build_graph, predict
from onnx_ghn.errors import ModelReadError
from onnx_ghn.inspection import inspect_model
from onnx_ghn.profiling import profile
from onnx_ghn.profiling.specs import model_spec
from onnx_ghn.properties.macs import model_macs


def positions() -> onnx.ModelProto:
    """A table that is added to tokens, whose values would tell that it is no mask; a reshape by a stored shape."""
    net = Net()
    net.input(1, 8, 12)
    net.op("Add", "x", net.random("positions", 1, 8, 12), out="p")
    net.op("MatMul", "p", net.random("w", 12, 20), out="h")
    net.op("Reshape", "h", net.tensor("shape", [1, 160], np.int64), out="flat")
    net.op("Gemm", "flat", net.random("fc.w", 5, 160), net.random("fc.b", 5), out="y", transB=1)
    return net.model("y")


def lost(proto: onnx.ModelProto, folder: Path, threshold: int = 0) -> Path:
    """The model in a file whose data file is removed; tensors below a size in bytes stay in the file."""
    path = folder / "lost.onnx"
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    onnx.save(copy, path, save_as_external_data=True, location="lost.data", size_threshold=threshold)
    (folder / "lost.data").unlink()
    return path


MODELS: list[tuple[Callable[[], onnx.ModelProto], int]] = [(cnn, 0), (mlp, 0), (positions, 100)]


@pytest.mark.parametrize(("make", "threshold"), MODELS)
def test_a_prediction_is_that_of_the_whole_file(
    make: Callable[[], onnx.ModelProto], threshold: int, tmp_path: Path
) -> None:
    whole = predict(make(), tmp_path / "whole.onnx", ghn=tiny_ghn())
    found = predict(lost(make(), tmp_path, threshold), tmp_path / "out.onnx", ghn=tiny_ghn())
    assert "lost.data is lost" in found.coverage.notes[0]
    assert found.coverage.notes[1:] == whole.coverage.notes
    expected, got = arrays(onnx.load(tmp_path / "whole.onnx")), arrays(onnx.load(tmp_path / "out.onnx"))
    assert expected.keys() == got.keys()
    for name, array in expected.items():  # the statistics of batch norms are measured, so they are the same, too
        np.testing.assert_array_equal(array, got[name], err_msg=name)
    assert not list(tmp_path.glob("*.data"))


@pytest.mark.parametrize(("make", "threshold"), MODELS)
def test_graph_inspection_and_architecture(
    make: Callable[[], onnx.ModelProto], threshold: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = lost(make(), tmp_path, threshold)
    graph = build_graph(make())
    with caplog.at_level(logging.WARNING, "onnx_ghn"):
        assert build_graph(path).nodes == graph.nodes
        assert [p.name for p in inspect_model(path, policy="all").graph.parameters] == [
            p.name for p in graph.parameters
        ]
        if threshold:
            onnx_ghn.strip(path, tmp_path / "stripped.onnx")
    assert caplog.messages
    assert all("lost.data is lost" in message for message in caplog.messages)
    if threshold:
        assert build_graph(tmp_path / "stripped.onnx").nodes == graph.nodes


def test_a_pointer_in_the_place_of_the_data(tmp_path: Path) -> None:
    """What a clone without Git LFS leaves."""
    path = lost(cnn(), tmp_path)
    (tmp_path / "lost.data").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "too short" in predict(path, ghn=tiny_ghn()).coverage.notes[0]


@pytest.mark.parametrize("make", [cnn, mlp])
def test_a_proto_with_and_without_its_folder(make: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(make(), path, save_as_external_data=True, location="m.data", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    without = predict(proto, ghn=tiny_ghn())
    assert "`base_dir`" in without.coverage.notes[0]
    beside = predict(proto, ghn=tiny_ghn(), base_dir=tmp_path, exclude=["w", "scale"])
    assert beside.coverage.notes == []
    beside.save(tmp_path / "out.onnx")
    kept = next(entry.parameter.name for entry in beside.coverage.entries if entry.outcome == "kept")
    np.testing.assert_array_equal(arrays(onnx.load(tmp_path / "out.onnx"))[kept], arrays(make())[kept])
    assert build_graph(proto, base_dir=tmp_path).nodes == build_graph(make()).nodes


@pytest.mark.parametrize(
    ("make", "threshold", "options", "named"),
    [
        (cnn, 0, {"exclude": ["conv1"]}, "conv1.w"),
        (cnn, 0, {"calibrate": "none"}, "bn1.mean"),
        (mlp, 0, {"include": ["w1"]}, "b1"),
        (positions, 0, {}, "shape"),
    ],
)
def test_values_that_are_needed_are_named(
    make: Callable[[], onnx.ModelProto], threshold: int, options: dict[str, Any], named: str, tmp_path: Path
) -> None:
    path = lost(make(), tmp_path, threshold)
    with pytest.raises(ModelReadError, match=f"'{named}' has external data in .*lost.data.*keep it beside the model"):
        predict(path, tmp_path / "out.onnx", ghn=tiny_ghn(), **options)
    assert not (tmp_path / "out.onnx").exists()


def test_an_estimate_and_its_costs(tmp_path: Path) -> None:
    path = lost(positions(), tmp_path, 100)
    assert model_macs(str(path)) == 8 * 12 * 20 + 160 * 5
    spec, whole = model_spec(path, allow_absent=True), model_spec(_saved(positions(), tmp_path))
    assert spec.parameters == whole.parameters == 96 + 240 + 800 + 5
    assert abs(spec.size_bytes - whole.size_bytes) < 600  # the names of the data file
    report = profile(path, estimate=True, threads=(1,))
    assert report.model == str(path)
    (point,) = report.points
    assert point.error is None
    with pytest.raises(ModelReadError, match=r"lost\.data"):
        profile(path, threads=(1,))


def test_shapes_that_onnxruntime_computes(tmp_path: Path) -> None:
    """The sizes come from arithmetic in the graph, which onnxruntime folds: without the weights as with them."""
    net = Net()
    net.input(1, 12)
    net.op("Reshape", "x", net.op("Abs", net.tensor("s", [-3, -4], np.int64), out="size"), out="r")
    net.op("MatMul", "r", net.random("w", 4, 30), out="y")
    proto = net.model("y", shape=[3, 30])
    assert model_macs(proto) == model_macs(str(lost(proto, tmp_path, 100))) == 3 * 4 * 30


def _saved(proto: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(proto, folder / "saved.onnx")
    return folder / "saved.onnx"
