"""Weights that stay in a model's file until they are asked for: the same models, and nothing of a file that changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import io_models as m
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnx_ghn.errors import ModelReadError
from onnx_ghn.onnx_io import read, read_model, stored_tensors, wire, write_model
from onnx_ghn.onnx_io.tensors import FileTensor

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"


@pytest.fixture(autouse=True)
def small_files_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "_READ_WHOLE", 0)
    monkeypatch.setattr(read, "_HELD", 2000)
    monkeypatch.setattr(wire, "_WINDOW_BYTES", 64)


def filled(example: str) -> onnx.ModelProto:
    """An example with numbers in the place of its fills."""
    proto = onnx.load(EXAMPLES / example)
    for node in proto.graph.node:
        if node.op_type == "ConstantOfShape":
            values = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
            tensor = numpy_helper.from_array(values, node.output[0])
            node.CopyFrom(helper.make_node("Constant", [], node.output, value=tensor))
    return proto


def sparse() -> onnx.ModelProto:
    values = numpy_helper.from_array(m.array(1000), "s")
    places = numpy_helper.from_array(np.arange(1000, dtype=np.int64) * 3, "i")
    return m.model(
        [helper.make_node("Identity", ["s"], ["y"])],
        [],
        [m.info("y", 3000)],
        sparse=[helper.make_sparse_tensor(values, places, [3000])],
    )


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "mlp": m.mlp,
    "every form": m.every_form,
    "sparse": sparse,
    **{path.name: lambda name=path.name: filled(name) for path in sorted(EXAMPLES.glob("*.onnx"))},
}


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_the_one_that_reading_it_whole_gives(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(MODELS[name]().SerializeToString())
    left, whole = read_model(path, leave_on_disk=True), read_model(path)
    large = [
        one.name
        for one in stored_tensors(whole).values()
        if one.nbytes > 2000 and not one.is_sparse and one.kind != "constant_of_shape" and one.tensor.raw is None
    ]
    found = stored_tensors(left)
    assert [one for one in large if not isinstance(found[one].tensor, FileTensor)] == []
    for one in stored_tensors(whole).values():
        if not one.is_sparse:
            assert np.asarray(found[one.name].numpy()).tobytes() == np.asarray(one.numpy()).tobytes()
    for model, target in ((left, "a.onnx"), (whole, "b.onnx")):
        write_model(model, tmp_path / target)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("change", ["other bytes", "shorter", "longer"])
def test_a_file_that_changed_gives_no_weights(change: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(m.mlp().SerializeToString())
    model = read_model(path, leave_on_disk=True)
    with open(path, "r+b") as file:
        if change == "shorter":
            file.truncate(500)
        elif change == "longer":
            file.seek(0, os.SEEK_END)
            file.write(b"\0")
        else:
            file.write(b"other")
    os.utime(path, ns=(1, 1))
    with pytest.raises(ModelReadError, match=r"m\.onnx: the file has (changed|shrunk) .*; read the model again"):
        stored_tensors(model)["w1"].numpy()
    with pytest.raises(ModelReadError, match=r"m\.onnx: the file has (changed|shrunk) .*; read the model again"):
        write_model(model, tmp_path / "out.onnx")
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_a_file_whose_name_goes_to_another_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(m.mlp().SerializeToString())
    model = read_model(path, leave_on_disk=True)
    other = tmp_path / "other"
    other.write_bytes(m.mlp(16).SerializeToString())
    os.replace(other, path)
    expected = numpy_helper.to_array(m.mlp().graph.initializer[0])
    np.testing.assert_array_equal(stored_tensors(model)["w1"].numpy(), expected)


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"text " * 2000, lambda data: b"PK\x03\x04"])
def test_damaged_files_are_refused_in_the_same_words(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(damage(m.mlp().SerializeToString()))
    told = []
    for leave in (True, False):
        with pytest.raises(ModelReadError) as caught:
            read_model(path, leave_on_disk=leave)
        told.append(str(caught.value))
    assert told[0] == told[1]
    assert "\n" not in told[0]


def test_a_window_moves_back_and_refuses_what_is_not_there() -> None:
    data = bytes(range(256)) * 4
    window = wire.Window(lambda start, count: data[start : start + count], len(data))
    for start, stop in ((0, 3), (60, 300), (5, 6), (1000, 1024), (2, 2)):
        assert window[start:stop] == data[start:stop]
        assert window[start] == data[start]
    with pytest.raises(wire.WireError):
        window[1020:1030]
