"""Zeros that a mask, padding or pruning left in a weight stay where the weight is filled; other zeros do not."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from predict_models import Net, besides_copies, session, tiny_ghn

from onnx_ghn import predict
from onnx_ghn.inspection import inspect_model

CAUSAL = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 0]], np.float32)  # of a kernel that reads what comes before a pixel


def causal(masked: bool = True, seed: int = 0, width: int = 12) -> onnx.ModelProto:
    """Two convolutions as an exporter leaves PixelCNN's: it multiplied each kernel by its mask."""
    net = Net()
    net.rng = np.random.default_rng(seed)
    net.input("N", 3, 8, 8)
    mask = CAUSAL if masked else np.ones_like(CAUSAL)
    for name, n_out, n_in in (("w1", width, 3), ("w2", 4, width)):
        net.tensor(name, 0.1 * net.rng.standard_normal((n_out, n_in, 3, 3)) * mask)
    h = net.op("Relu", net.op("Conv", "x", "w1", out="c", pads=[1] * 4), out="h")
    net.op("Conv", h, "w2", out="y", pads=[1] * 4)
    return net.model("y")


def dense(weight: np.ndarray) -> onnx.ModelProto:
    net = Net()
    net.input("N", weight.shape[0])
    net.op("MatMul", "x", net.tensor("w", weight), out="h")
    net.op("MatMul", net.op("Relu", "h", out="r"), net.random("v", weight.shape[1], 5), out="y")
    return net.model("y")


def filled(proto: onnx.ModelProto, tmp_path: Path, **options: Any) -> tuple[onnx.ModelProto, list[str]]:
    path = tmp_path / "filled.onnx"
    settings = {"policy": "all", "ghn": tiny_ghn(), **options}
    prediction = predict(proto, path, force=True, **settings)
    return onnx.load(path), besides_copies(prediction.coverage.notes)


def values(proto: onnx.ModelProto, name: str) -> np.ndarray:
    return next(numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if tensor.name == name)


@pytest.mark.parametrize("calibrate", ["none", "noise"])
def test_a_masked_kernel_sees_no_later_pixel(calibrate: str, tmp_path: Path) -> None:
    model, notes = filled(causal(), tmp_path, calibrate=calibrate)
    for name in ("w1", "w2"):
        kernel = values(model, name)
        assert not np.array_equal(kernel, values(causal(), name))
        np.testing.assert_array_equal((kernel == 0).all((0, 1)), CAUSAL == 0)
        assert float((kernel[..., CAUSAL == 1] == 0).mean()) == 0
    assert any("zeros stay in 2 weights" in note and "44 % of which is zero" in note for note in notes)

    run = session(model)
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    later = x.copy()
    later[:, :, 4, 5:] += 1
    later[:, :, 5:] += 1
    before, after = (run.run(None, {"x": each})[0].reshape(4, -1) for each in (x, later))
    first_changed = 4 * 8 + 5
    np.testing.assert_array_equal(before[:, :first_changed], after[:, :first_changed])
    assert not np.allclose(before[:, first_changed:], after[:, first_changed:])


def test_a_pruned_weight_stays_as_sparse(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((20, 16)).astype(np.float32)
    weight[rng.random(weight.shape) < 0.3] = 0
    model, notes = filled(dense(weight), tmp_path)
    np.testing.assert_array_equal(values(model, "w") == 0, weight == 0)
    assert any("zeros stay in 1 weight," in note and ": w, " in note for note in notes)
    model, notes = filled(dense(weight), tmp_path, overwrite_special=True)
    assert (values(model, "w") != 0).all()
    assert not any("zero" in note for note in notes)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_numbers_that_are_zero_by_chance_are_filled(dtype: Any, tmp_path: Path) -> None:
    """Values of a grid, as those of a quantised weight that a tool turned into floats, are zero as often as others."""
    rng = np.random.default_rng(0)
    weight = (np.rint(rng.standard_normal((20, 16)) * 8) / 8).astype(dtype).astype(np.float32)
    assert float((weight == 0).mean()) > 0.02
    single = rng.standard_normal((20, 16)).astype(np.float32)
    single[3, 4] = 0
    for each in (weight, single):
        model, notes = filled(dense(each), tmp_path)
        assert (values(model, "w") != 0).all()
        assert not any("zero" in note for note in notes)


@pytest.mark.parametrize("zero", [0, -5])
def test_a_weight_that_was_pruned_and_quantised(zero: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    integers = np.rint(rng.standard_normal((20, 12)) * 30).clip(-100, 100).astype(np.int8)
    is_pruned = rng.random(integers.shape) < 0.4
    integers[integers == 0] = 1
    integers[is_pruned] = 0
    net = Net(19)
    net.input("N", 12)
    given = [net.tensor("w", integers + zero, np.int8), net.tensor("s", 0.01), net.tensor("z", zero, np.int8)]
    net.op("Gemm", "x", net.op("DequantizeLinear", *given, out="f"), net.random("b", 20), out="y", transB=1)
    model, notes = filled(net.model("y"), tmp_path)
    np.testing.assert_array_equal(values(model, "w")[is_pruned], zero)
    assert float((values(model, "w")[~is_pruned] == zero).mean()) < 0.2
    assert any("zeros stay in 1 weight," in note for note in notes)


def test_the_padding_of_an_embedding_stays(tmp_path: Path) -> None:
    net = Net()
    table = net.rng.standard_normal((300, 16))
    table[1] = 0
    net.input("N", 6, name="ids", kind=TensorProto.INT64)
    net.op("Gather", net.tensor("table", table), "ids", out="e")
    net.op("MatMul", "e", net.random("w", 16, 5), out="y")
    model, notes = filled(net.model("y", kind=TensorProto.FLOAT, shape=["N", 6, 5]), tmp_path)
    got = values(model, "table")
    np.testing.assert_array_equal(np.flatnonzero((got == 0).all(1)), [1])
    assert not np.array_equal(got, table)
    assert any("table, 0.33 % of which is zero" in note for note in notes)


def test_what_a_donor_puts_in_the_places_of_zeros_is_told(tmp_path: Path) -> None:
    donors = {is_masked: tmp_path / f"{is_masked}.onnx" for is_masked in (True, False)}
    for is_masked, path in donors.items():
        onnx.save(causal(is_masked, seed=1), path)
    _, notes = filled(causal(), tmp_path, donors=[donors[False]])
    assert any("inherited numbers are in the places of zeros of 2 weights" in note for note in notes)
    model, notes = filled(causal(), tmp_path, donors=[donors[True]])
    assert not any("places of zeros" in note for note in notes)
    np.testing.assert_array_equal(values(model, "w1"), values(causal(seed=1), "w1"))


def test_inspect_foretells_them() -> None:
    notes = inspect_model(causal(), policy="all").coverage.notes
    assert any("zeros stay in 2 weights" in note for note in notes)


def test_damaged_numbers_are_no_zeros(tmp_path: Path) -> None:
    """A NaN that signals, as a flipped bit makes one: numpy warns where it is converted."""
    weight = np.random.default_rng(0).standard_normal((20, 16)).astype(np.float32)
    weight.view(np.uint32)[0, 0] = 0x7FA00000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, notes = filled(dense(weight), tmp_path)
    assert not any("zero" in note for note in notes)
