"""What is said of inherited weights is what was seen: outputs that were not compared are not called kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn import predict
from onnx_ghn.errors import OptionError


def chain(width: int, activation: str = "Relu", dtype: int = TensorProto.FLOAT, **weights: Any) -> onnx.ModelProto:
    """Two dense layers for 4 numbers, with random weights of a seed but for those that are given."""
    rng = np.random.default_rng(width)
    shapes = {"a": (4, width), "b": (width,), "c": (width, 3)}
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    values = {name: weights.get(name, rng.normal(0, 0.5, shape)).astype(kind) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"]),
        helper.make_node("Clip", ["h", "low", "high"], ["r"])
        if activation == "Relu6"
        else helper.make_node(activation, ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "c"], ["y"]),
    ]
    stored = [numpy_helper.from_array(value, name) for name, value in values.items()]
    if activation == "Relu6":
        stored += [numpy_helper.from_array(np.array(v, kind), n) for n, v in (("low", 0), ("high", 6))]
    ends = [helper.make_tensor_value_info(n, dtype, ["N", size]) for n, size in (("x", 4), ("y", 3))]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def file(donor: onnx.ModelProto) -> str:
    onnx.save(donor, "donor.onnx")
    return "donor.onnx"


def told(recipient: onnx.ModelProto, donor: onnx.ModelProto, **options: Any) -> str:
    return " | ".join(predict(recipient, donors=[file(donor)], **options).coverage.notes)


def test_kept_outputs_are_measured() -> None:
    assert "outputs of donor.onnx are kept" in told(chain(16), chain(8))


def test_another_type_is_not_compared_and_not_called_kept() -> None:
    notes = told(chain(16, "Sigmoid", TensorProto.FLOAT16), chain(8))
    assert "kept was not measured" in notes
    assert "are kept, as far" not in notes


def test_what_clips_shows_on_large_inputs() -> None:
    assert "are not kept" in told(chain(16, "Relu6"), chain(8))


def test_a_donor_with_nan_is_refused_by_name() -> None:
    broken = chain(8, b=np.full(8, np.nan))
    with pytest.raises(OptionError, match=r"b holds NaN or infinity.*`donors`"):
        predict(chain(16), donors=[file(broken)])


def test_weights_that_a_type_cannot_hold_are_refused(tmp_path: Path) -> None:
    large = chain(8, c=np.full((8, 3), 1e6))
    target = tmp_path / "out.onnx"
    with pytest.raises(OptionError, match=r"'c'.*larger than FLOAT16 can hold.*`exclude`"):
        predict(chain(8, dtype=TensorProto.FLOAT16), target, donors=[file(large)])
    assert not target.exists()


def test_patterns_are_named_as_the_reason() -> None:
    notes = told(chain(8), chain(8), include=["a"])
    assert "`include` and `exclude` leave tensors out" in notes
    assert "no counterpart" not in notes


def test_nothing_is_said_of_noise_that_is_not_in_the_file() -> None:
    """Two equal branches: the GHN would give them equal weights, the donor gives them its own."""
    rng = np.random.default_rng(0)
    values = {name: rng.normal(0, 0.5, (4, 4)).astype(np.float32) for name in "abc"}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["p"]),
        helper.make_node("MatMul", ["x", "b"], ["q"]),
        helper.make_node("Add", ["p", "q"], ["m"]),
        helper.make_node("MatMul", ["m", "c"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4]) for n in "xy"]
    stored = [numpy_helper.from_array(value, name) for name, value in values.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "gated", ends[:1], ends[1:], stored),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    assert "tells them apart" in " ".join(predict(model, policy="all").coverage.notes)
    inherited = predict(model, donors=[file(model)], policy="all")
    assert "tells them apart" not in " ".join(inherited.coverage.notes)
    for name, value in values.items():
        np.testing.assert_array_equal(inherited[name], value)


@pytest.mark.parametrize("blend", ["0.5", True, float("nan")])
def test_a_blend_that_is_no_share_is_told(blend: Any) -> None:
    with pytest.raises(OptionError, match="`blend`"):
        predict(chain(8), donors=[file(chain(8))], blend=blend)
