"""Inputs: shapes, bounds, seeds, files."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from graph_models import Net
from onnx import TensorProto

from onnx_ghn.errors import OptionError
from onnx_ghn.profiling.feeds import candidate_feeds, point_feeds, point_inputs
from onnx_ghn.profiling.gates import Gates
from onnx_ghn.profiling.machine import system_info
from onnx_ghn.profiling.measuring import open_runnable
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import InputSpec, model_spec
from onnx_ghn.profiling.sweep import profile

IMAGE = InputSpec("x", "float32", (None, 3, 32, 32))
PAIR = [InputSpec("ids", "int64", (None, None), 50), InputSpec("mask", "bool", (None, None))]


def first(specs: list[InputSpec], **options: Any) -> dict[str, np.ndarray]:
    return next(candidate_feeds(specs, **options))[0]


def test_shapes_and_batches() -> None:
    assert first([IMAGE])["x"].shape == (1, 3, 32, 32)
    assert first([IMAGE], batch=7)["x"].shape == (7, 3, 32, 32)
    assert first([IMAGE], shapes={"x": (2, 3, 64, 48)})["x"].shape == (2, 3, 64, 48)
    fixed = [InputSpec("a", "float32", (4, 5)), InputSpec("b", "float32", (4,))]
    assert {name: array.shape for name, array in first(fixed, batch=2).items()} == {"a": (2, 5), "b": (2,)}
    tried = [(feed["ids"].shape, chosen) for feed, chosen in candidate_feeds(PAIR, batch=3)]
    assert tried == [((3, 64), ("ids 3×64", "mask 3×64")), ((3, 16), ("ids 3×16", "mask 3×16"))]
    free = InputSpec("x", "float32", (None, None, None, None))
    assert first([free])["x"].shape == (1, 3, 224, 224)


@pytest.mark.parametrize(
    ("specs", "point", "settings"),
    [
        (PAIR, {"batch": 3}, {}),
        ([IMAGE], {}, {"shapes": {"x": (2, 3, 64, 48)}}),
        ([IMAGE], {"shapes": (("x", (2, 3, 32, 32)),)}, {}),
        ([InputSpec("x", "float16", (None, None, None, None))], {}, {}),
    ],
)
def test_shapes_are_those_of_the_feeds_and_nothing_is_drawn_for_them(
    specs: list[InputSpec], point: dict[str, Any], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    at, how = Point(**point), Settings(**settings)
    fed = [{n: (str(a.dtype), a.shape) for n, a in feed.items()} for feed, _ in point_feeds(specs, at, how)]
    monkeypatch.setattr(np.random, "default_rng", None)
    assert list(point_inputs(specs, at, how)) == fed


def test_a_sweep_is_checked_without_drawing_inputs(save, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """A baseline of other shapes, inputs beyond the memory, and types that nobody can draw, are told at once."""
    net = Net()
    path = save(net.model(net.linear(net.input(2, 4), 4, 4, "last")))
    monkeypatch.setattr(np.random, "default_rng", None)
    latency = {"samples_ms": [1.0] * 30}
    axes = {"threads": 1, "inter_threads": 1, "streams": 1, "batch": 9, "optimization": "all"}
    point = {**axes, "provider": "CPUExecutionProvider", "error": None, "latency": latency}
    point["inputs"] = [{"name": "x", "dtype": "float32", "shape": [9, 4]}]
    file = tmp_path / "b.json"
    file.write_text(json.dumps({"points": [point], "system": {"processor": system_info()["processor"]}}))
    (spec,) = model_spec(path).inputs
    with pytest.raises(OptionError, match=rf"this model takes {spec.name} 2×4 float32"):
        profile(path, threads=[1], gates=Gates(fail_slower_than=(str(file), 5.0)))
    with pytest.raises(OptionError, match="more than half of this machine's memory"):
        profile(path, threads=[1], batch=[1 << 40])


def test_seeds_types_and_bounds() -> None:
    feed = first(PAIR, batch=64, seed=1)
    assert feed["ids"].dtype == np.int64
    assert feed["mask"].dtype == np.bool_
    assert feed["ids"].min() >= 0
    assert 40 < feed["ids"].max() < 50
    np.testing.assert_array_equal(feed["ids"], first(PAIR, batch=64, seed=1)["ids"])
    assert (feed["ids"] != first(PAIR, batch=64, seed=2)["ids"]).any()
    small = first([InputSpec("x", "uint8", (1000,), 100_000)])["x"]
    assert small.dtype == np.uint8
    assert small.max() == 255


def test_tables_bound_the_integers(save) -> None:
    """The smallest table counts, also behind a Cast and a Reshape, also one that is a ConstantOfShape."""
    net = Net()
    ids = net.input(2, 3, name="ids", kind=TensorProto.INT32)
    flat = net.op("Reshape", net.op("Cast", ids, to=TensorProto.INT64), net.number([-1], np.int64))
    x = net.op("Gather", net.weight(30, 4, name="large"), flat)
    small = net.op("ConstantOfShape", net.number([20, 4], np.int64))
    path = save(net.model(net.op("Add", x, net.op("Gather", small, flat))))
    (spec,) = model_spec(path).inputs
    assert spec == InputSpec("ids", "int32", (2, 3), 20)
    assert spec.symbol(0) is None
    assert open_runnable(path, [spec], Point(), Settings(seed=3)).feed["ids"].max() < 20


def test_free_sizes_are_tried_until_the_model_runs(save) -> None:
    """A classifier behind a flatten takes 8 × 32 × 32 only."""
    net = Net()
    x = net.op("Flatten", net.conv(net.input("N", 3, "H", "W"), 3, 8, "w"))
    path = save(net.model(net.linear(x, 8 * 32 * 32, 10, "head")))
    found = open_runnable(path, model_spec(path).inputs, Point(batch=2), Settings())
    assert found.feed["x"].shape == (2, 3, 32, 32)
    assert "chosen here: H 32, W 32" in found.notes[0]
    assert found.first_ns > 0


def test_files(tmp_path) -> None:
    x = np.arange(2 * 3 * 32 * 32, dtype=np.float64).reshape(2, 3, 32, 32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    for name in ("x.npy", "x.npz"):
        feed = first([IMAGE], file=str(tmp_path / name))
        assert feed["x"].dtype == np.float32
        np.testing.assert_array_equal(feed["x"], x.astype(np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_scalars_of_a_file_stay_scalars(tmp_path, dtype) -> None:
    np.savez(
        tmp_path / "x.npz", s=np.array(2, dtype), v=np.array([3], dtype), t=np.arange(4, dtype=dtype).reshape(2, 2).T
    )
    specs = [InputSpec("s", dtype, ()), InputSpec("v", dtype, (1,)), InputSpec("t", dtype, (2, 2))]
    feed = first(specs, file=str(tmp_path / "x.npz"))
    assert {name: array.shape for name, array in feed.items()} == {"s": (), "v": (1,), "t": (2, 2)}
    assert feed["s"] == 2
    assert feed["t"].flags.c_contiguous
    np.testing.assert_array_equal(feed["t"], [[0, 2], [1, 3]])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "lacks input 'x'"),
        ({"x": np.zeros((2, 3, 32, 32)), "y": np.zeros(1)}, "holds 'y', which is no input"),
        ({"x": np.zeros((2, 3, 32))}, r"of shape \[2, 3, 32\]"),
        ({"x": np.zeros((2, 4, 32, 32))}, r"inputs are x \[\?, 3, 32, 32\]"),
        ({"x": np.zeros((2, 3, 32, 32), complex)}, "complex128, the model's input is float32"),
    ],
)
def test_bad_files(tmp_path, arrays, words) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(OptionError, match=words):
        first([IMAGE], file=str(tmp_path / "x.npz"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shapes": {"y": (1,)}}, "no input 'y'"),
        ({"shapes": {"x": (1, 3, 32)}}, "has 3 dimensions, input 'x' has 4"),
        ({"batch": 10**9}, "more than half of this machine's memory"),
        ({"file": "x.npz", "batch": 2}, "leave `batch`, `shapes`, `size` and `lengths` out"),
        ({"file": "absent.npz"}, "cannot be read"),
    ],
)
def test_bad_options(options, words) -> None:
    with pytest.raises(OptionError, match=words):
        first([IMAGE], **options)


def test_no_batch_and_no_type() -> None:
    scalar = InputSpec("s", "float32", ())
    with pytest.raises(OptionError, match="no input has a batch dimension"):
        first([scalar], batch=2)
    with pytest.raises(OptionError, match="of type string"):
        first([InputSpec("s", "string", (1,))])
