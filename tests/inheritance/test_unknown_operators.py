"""Operators that nobody knows: their tensors are copied where sizes allow, and what stands behind is aligned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn import predict
from onnx_ghn.prediction import Prediction


def model(nodes: list[onnx.NodeProto], seed: int, last: int = 3, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    """Operators from `x` to `y`, on random weights."""
    rng = np.random.default_rng(seed)
    stored = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), name) for name, s in shapes.items()]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 5, size]) for n, size in (("x", 6), ("y", last))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    opsets = [helper.make_opsetid(*each) for each in (("", 17), ("my.ops", 1))]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def custom(width: int, seed: int = 0) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Magic", ["h", "m"], ["i"], domain="my.ops"),
        helper.make_node("MatMul", ["i", "b"], ["j"]),
        helper.make_node("Add", ["j", "bias"], ["k"]),
        helper.make_node("LayerNormalization", ["k", "scale", "shift"], ["n"]),
        helper.make_node("Gemm", ["n", "c"], ["y"], transB=1),
    ]
    return model(
        nodes, seed, a=(6, width), m=(width, width), b=(width, width), bias=(width,), scale=(width,), shift=(width,),
        c=(3, width),
    )  # fmt: skip


def ellipsis(width: int, seed: int = 0) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Einsum", ["x", "a"], ["h"], equation="...i,io->...o"),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("Einsum", ["c", "i"], ["y"], equation="oi, ...i -> ...o"),
    ]
    return model(nodes, seed, a=(6, width), c=(3, width))


def branched(width: int, seed: int = 0) -> onnx.ModelProto:
    """The branch that a flag names."""
    rng = np.random.default_rng(seed + 10)
    branches = {}
    for name in ("then_branch", "else_branch"):
        weight = numpy_helper.from_array(rng.normal(size=(width, width)).astype(np.float32), f"{name}.w")
        end = helper.make_tensor_value_info(f"{name}.y", TensorProto.FLOAT, [2, 5, width])
        nodes = [helper.make_node("MatMul", ["h", f"{name}.w"], [f"{name}.y"])]
        branches[name] = helper.make_graph(nodes, name, [], [end], [weight])
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["flag"], to=TensorProto.BOOL),
        helper.make_node("If", ["flag"], ["i"], **branches),
        helper.make_node("MatMul", ["i", "c"], ["y"]),
    ]
    return model(nodes, seed, a=(6, width), c=(width, 3))


def inherited(recipient: onnx.ModelProto, donor: onnx.ModelProto, tmp_path: Path, **options: Any) -> Prediction:
    onnx.save(donor, tmp_path / "donor.onnx")
    return predict(recipient, tmp_path / "out.onnx", donors=[tmp_path / "donor.onnx"], **options)


def run(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(5).normal(size=(2, 5, 6)).astype(np.float32)
    output: np.ndarray = session.run(None, {"x": x})[0]
    return output


def test_the_same_file_gives_all_its_values(tmp_path: Path) -> None:
    prediction = inherited(custom(8, seed=1), donor := custom(8), tmp_path)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in donor.graph.initializer}
    assert prediction.inheritance is not None
    assert prediction.inheritance.tensors.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(prediction[name], value)
    assert "channels of donor.onnx are not followed through Magic" in prediction.coverage.notes


def test_what_stands_behind_is_aligned_and_shared(tmp_path: Path) -> None:
    """Twice as wide: rows are copied, and columns share; the unknown operator's own tensor stays, with a reason."""
    prediction = inherited(custom(16, seed=1), donor := custom(8), tmp_path)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in donor.graph.initializer}
    inheritance = prediction.inheritance
    assert inheritance is not None
    assert inheritance.tensors.keys() == {"a", "b", "bias", "scale", "shift", "c"}
    assert inheritance.kept["m"] == "m is of other sizes (8 × 8), and what its operator does with them is not known"
    assert not inheritance.is_exact
    np.testing.assert_array_equal(prediction["a"], values["a"].repeat(2, axis=1))
    np.testing.assert_array_equal(prediction["bias"], values["bias"].repeat(2))
    np.testing.assert_allclose(prediction["c"].reshape(3, 8, 2).sum(-1), values["c"], rtol=1e-6)
    shared = prediction["b"].reshape(8, 2, 8, 2).sum(1)  # (in, out, copy of out)
    np.testing.assert_allclose(shared, values["b"][..., None].repeat(2, -1), rtol=1e-5)


def rounded(width: int, seed: int = 0) -> onnx.ModelProto:
    """Each stored tensor in another form of numbers, as AMD's Quark writes those that no operator of ONNX makes."""
    names = ("a", "b", "bias")
    nodes = [helper.make_node("Magic", [name], [f"{name}_rounded"], domain="my.ops") for name in names]
    nodes += [
        helper.make_node("MatMul", ["x", "a_rounded"], ["h"]),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("MatMul", ["i", "b_rounded"], ["j"]),
        helper.make_node("Add", ["j", "bias_rounded"], ["y"]),
    ]
    return model(nodes, seed, a=(6, width), b=(width, 3), bias=(3,))


def test_weights_that_an_unknown_operator_gives_are_copied_where_sizes_allow(tmp_path: Path) -> None:
    prediction = inherited(rounded(8, seed=1), donor := rounded(8), tmp_path)
    assert prediction.inheritance is not None
    assert prediction.inheritance.tensors.keys() == {"a", "b", "bias"}
    for tensor in donor.graph.initializer:
        np.testing.assert_array_equal(prediction[tensor.name], numpy_helper.to_array(tensor))
    wider = inherited(rounded(16, seed=1), donor, tmp_path, force=True).inheritance
    assert wider is not None
    assert wider.tensors.keys() == {"bias"}
    assert all("what its operator does with them is not known" in wider.kept[name] for name in "ab")


def padded(width: int, seed: int = 0, *, is_known: bool = True) -> onnx.ModelProto:
    """Features are padded by what arithmetic finds too little, at least nothing, and joined with the input.

    Args:
        is_known: whether that arithmetic is on numbers of the model alone, as where timm keeps the size of a map.
    """
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Ceil", ["lack"], ["found"])
        if is_known
        else helper.make_node("ReduceMin", ["x"], ["found"], keepdims=0),
        helper.make_node("Clip", ["found", "none", "" if is_known else "none"], ["least"]),
        helper.make_node("Cast", ["least"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "one"], ["row"]),
        helper.make_node("Expand", ["row", "six"], ["pads"]),
        helper.make_node("Pad", ["h", "pads"], ["p"]),
        helper.make_node("Concat", ["p", "x"], ["j"], axis=2),
        helper.make_node("MatMul", ["j", "b"], ["y"]),
    ]
    made = model(nodes, seed, a=(6, width), b=(width + 6, 3))
    for name, value in (("one", [1]), ("six", [6])):
        made.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    for name, number in (("lack", -1.0), ("none", 0.0)):
        made.graph.initializer.append(numpy_helper.from_array(np.array(number, np.float32), name))
    return made


@pytest.mark.parametrize("made", [ellipsis, padded])
def test_an_ellipsis_and_padding_within_bounds_are_followed(
    made: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    prediction = inherited(made(16, seed=1), made(8), tmp_path)
    assert prediction.inheritance is not None
    assert prediction.inheritance.is_exact
    np.testing.assert_allclose(run(tmp_path / "out.onnx"), run(tmp_path / "donor.onnx"), atol=2e-5)


def test_both_branches_are_followed(tmp_path: Path) -> None:
    prediction = inherited(branched(16, seed=1), branched(8), tmp_path)
    assert prediction.inheritance is not None
    assert prediction.inheritance.is_exact
    assert len(prediction.inheritance.tensors) == 4
    np.testing.assert_allclose(run(tmp_path / "out.onnx"), run(tmp_path / "donor.onnx"), atol=2e-5)


def test_channels_that_end_where_numbers_are_not_known_are_told(tmp_path: Path) -> None:
    """What reads them takes channels of its own, by a rule that is exact by itself: the whole is not."""
    prediction = inherited(padded(16, seed=1, is_known=False), padded(8, is_known=False), tmp_path)
    assert prediction.inheritance is not None
    assert not prediction.inheritance.is_exact
    assert any("channels are not followed through Pad" in note for note in prediction.coverage.notes)


def test_a_bias_goes_with_a_classifier_of_other_classes_behind_unknown_sizes(tmp_path: Path) -> None:
    def classifier(classes: int, seed: int) -> onnx.ModelProto:
        nodes = [
            helper.make_node("MatMul", ["x", "a"], ["h"]),
            helper.make_node("Magic", ["h", "m"], ["i"], domain="my.ops"),
            helper.make_node("Gemm", ["i", "c", "d"], ["y"], transB=1),
        ]
        return model(nodes, seed, last=classes, a=(6, 8), m=(8, 8), c=(classes, 8), d=(classes,))

    onnx.save(classifier(4, 0), tmp_path / "donor.onnx")
    prediction = predict(classifier(7, 1), donors=[tmp_path / "donor.onnx"], calibrate="none")
    assert prediction.inheritance is not None
    assert set(prediction.inheritance.tensors) == {"a", "m"}
