"""Weights that loops read: recurrent layers and stacked layers, as frameworks on JAX write them, keep outputs."""

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_ghn

STEPS, READ = 6, 5
First = Literal["zeros", "learned", "expanded"]


def _stored(rng: np.random.Generator, **shapes: tuple[int, ...]) -> list[onnx.TensorProto]:
    arrays = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def _value(name: str, *shape: int | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(nodes: list[onnx.NodeProto], stored: list[onnx.TensorProto], shape: tuple[int, ...]) -> onnx.ModelProto:
    numbers = {"turns": np.array(STEPS), "on": np.array(True), "last": np.array(STEPS - 1)}
    stored = stored + [numpy_helper.from_array(array, name) for name, array in numbers.items()]
    graph = helper.make_graph(nodes, "loops", [_value("x", *shape)], [_value("y", None, None)], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def recurrent(
    kind: Literal["Loop", "Scan"], hidden: int, *, classes: int = 3, first: First = "zeros", seed: int = 0
) -> onnx.ModelProto:
    """h = tanh(x W + b + h U), written as a loop over steps; a layer reads the last h."""
    rng = np.random.default_rng(seed)
    stored = _stored(rng, w=(READ, hidden), b=(hidden,), u=(hidden, hidden), v=(hidden, classes), c=(classes,))
    nodes = []
    if first == "learned":
        stored += _stored(rng, h0=(1, hidden))
    elif first == "zeros":
        stored.append(numpy_helper.from_array(np.zeros((1, hidden), np.float32), "h0"))
    else:  # as often as the batch says
        stored += [numpy_helper.from_array(np.float32(0), "zero"), numpy_helper.from_array(np.array([hidden]), "width")]
        nodes += [
            helper.make_node("Shape", ["x"], ["batch"], start=1, end=2),
            helper.make_node("Concat", ["batch", "width"], ["sizes"], axis=0),
            helper.make_node("Expand", ["zero", "sizes"], ["h0"]),
        ]
    turn = [
        helper.make_node("MatMul", ["now", "w" if kind == "Scan" else "w_in"], ["read"]),
        helper.make_node("Add", ["read", "b"], ["shifted"]),
        helper.make_node("MatMul", ["h", "u"], ["kept"]),
        helper.make_node("Add", ["shifted", "kept"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["h_next"]),
        helper.make_node("Identity", ["h_next"], ["h_out"]),
    ]
    if kind == "Scan":
        body = helper.make_graph(
            turn,
            "turn",
            [_value("h", 1, hidden), _value("now", 1, READ)],
            [_value("h_next", 1, hidden), _value("h_out", 1, hidden)],
        )
        nodes.append(helper.make_node("Scan", ["h0", "x"], ["h_last", "all"], body=body, num_scan_inputs=1))
    else:  # the weight is handed from turn to turn, as jax2onnx does
        turn = [
            helper.make_node("Gather", ["x", "turn_number"], ["now"], axis=0),
            *turn,
            helper.make_node("Identity", ["w_in"], ["w_out"]),
            helper.make_node("Identity", ["on_in"], ["on_out"]),
        ]
        body = helper.make_graph(
            turn,
            "turn",
            [
                _value("turn_number", kind=TensorProto.INT64),
                _value("on_in", kind=TensorProto.BOOL),
                _value("w_in", READ, hidden),
                _value("h", 1, hidden),
            ],
            [
                _value("on_out", kind=TensorProto.BOOL),
                _value("w_out", READ, hidden),
                _value("h_next", 1, hidden),
                _value("h_out", 1, hidden),
            ],
        )
        nodes.append(helper.make_node("Loop", ["turns", "on", "w", "h0"], ["w_last", "h_last", "all"], body=body))
    nodes += [
        helper.make_node("Gather", ["all", "last"], ["end"], axis=0),
        helper.make_node("Gemm", ["end", "v", "c"], ["y"]),
    ]
    return _model(nodes, stored, (STEPS, 1, READ))


def stacked(
    kind: Literal["Loop", "Scan"], width: int, layers: int, *, is_post: bool = False, seed: int = 0
) -> onnx.ModelProto:
    """Layers x + W relu(V norm(x)), whose tensors are stacked; with `is_post` the norm stands behind the sum."""
    rng = np.random.default_rng(seed)
    stored = _stored(
        rng, first=(READ, width), v=(layers, width, 2 * width), w=(layers, 2 * width, width), out=(width, 3)
    )
    stored.append(numpy_helper.from_array(rng.uniform(0.5, 1.5, (layers, width)).astype(np.float32), "scale"))
    names = ("scale", "v", "w")
    piece = {name: f"{name}_now" for name in names}
    read, write = ("h", "normed") if not is_post else ("sum", "h_next")
    norm = helper.make_node("LayerNormalization", [read, piece["scale"]], [write], epsilon=1e-6)
    dense = [
        helper.make_node("MatMul", ["h" if is_post else "normed", piece["v"]], ["wide"]),
        helper.make_node("Relu", ["wide"], ["active"]),
        helper.make_node("MatMul", ["active", piece["w"]], ["branch"]),
        helper.make_node("Add", ["h", "branch"], ["sum" if is_post else "h_next"]),
    ]
    turn = [*dense, norm] if is_post else [norm, *dense]
    nodes = [helper.make_node("MatMul", ["x", "first"], ["h0"])]
    if kind == "Scan":
        shapes = {"scale": (width,), "v": (width, 2 * width), "w": (2 * width, width)}
        inputs = [_value("h", 1, width), *(_value(piece[name], *shapes[name]) for name in names)]
        body = helper.make_graph(turn, "turn", inputs, [_value("h_next", 1, width)])
        nodes.append(helper.make_node("Scan", ["h0", *names], ["h_last"], body=body, num_scan_inputs=3))
    else:
        turn = [helper.make_node("Gather", [name, "turn_number"], [piece[name]], axis=0) for name in names] + turn
        turn.append(helper.make_node("Identity", ["on_in"], ["on_out"]))
        body = helper.make_graph(
            turn,
            "turn",
            [
                _value("turn_number", kind=TensorProto.INT64),
                _value("on_in", kind=TensorProto.BOOL),
                _value("h", 1, width),
            ],
            [_value("on_out", kind=TensorProto.BOOL), _value("h_next", 1, width)],
        )
        stored.append(numpy_helper.from_array(np.array(layers), "layers"))
        nodes.append(helper.make_node("Loop", ["layers", "on", "h0"], ["h_last"], body=body))
    nodes.append(helper.make_node("MatMul", ["h_last", "out"], ["y"]))
    return _model(nodes, stored, (1, READ))


def _outputs(model: onnx.ModelProto | Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    )
    given = session.get_inputs()[0]
    x = np.random.default_rng(7).normal(size=given.shape).astype(np.float32)
    return np.asarray(session.run(None, {given.name: x})[0])


def _inherit(recipient: onnx.ModelProto, donor: onnx.ModelProto, folder: Path) -> tuple[onnx_ghn.Prediction, float]:
    """What is inherited, and how far outputs lie from the donor's, as a part of their scale."""
    onnx.save(donor, folder / "donor.onnx")
    onnx.save(recipient, folder / "recipient.onnx")
    prediction = onnx_ghn.predict(folder / "recipient.onnx", donors=[folder / "donor.onnx"], calibrate="none")
    prediction.save(folder / "out.onnx")
    theirs, ours = _outputs(donor), _outputs(folder / "out.onnx")
    error = float(np.abs(theirs - ours).max() / np.abs(theirs).max()) if theirs.shape == ours.shape else float("nan")
    return prediction, error


@pytest.mark.parametrize("hidden", [16, 19, 32])
@pytest.mark.parametrize("first", ["zeros", "expanded"])
@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_wider_recurrent_layers_keep_outputs(
    kind: Literal["Loop", "Scan"], first: First, hidden: int, tmp_path: Path
) -> None:
    donor = recurrent(kind, 16, first=first)
    prediction, error = _inherit(recurrent(kind, hidden, first=first, seed=1), donor, tmp_path)
    assert prediction.inheritance is not None
    assert prediction.inheritance.is_exact
    assert error < 1e-5


def test_a_first_state_that_may_be_a_constant_is_told(tmp_path: Path) -> None:
    own = recurrent("Loop", 16, first="learned", seed=1)
    prediction, _ = _inherit(own, recurrent("Loop", 16, first="learned"), tmp_path)
    assert prediction.inheritance is not None
    assert set(prediction.inheritance.tensors) == {"w", "b", "u", "v", "c"}
    assert [doubt for doubt in prediction.inheritance.doubts if doubt.startswith("h0, learned or a constant")]


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_all_but_another_classifier_is_inherited(kind: Literal["Loop", "Scan"], tmp_path: Path) -> None:
    donor = recurrent(kind, 16)
    prediction, _ = _inherit(recurrent(kind, 16, classes=4, seed=1), donor, tmp_path)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in donor.graph.initializer}
    assert prediction.inheritance is not None
    assert set(prediction.inheritance.tensors) == {"w", "b", "u"}
    for name in ("w", "b", "u"):
        np.testing.assert_array_equal(prediction[name], values[name])


@pytest.mark.parametrize(("width", "layers"), [(16, 3), (32, 3), (16, 5), (32, 7)])
@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_stacked_layers_keep_outputs(kind: Literal["Loop", "Scan"], width: int, layers: int, tmp_path: Path) -> None:
    prediction, error = _inherit(stacked(kind, width, layers, seed=1), stacked(kind, 16, 3), tmp_path)
    assert prediction.inheritance is not None
    assert prediction.inheritance.is_exact
    assert error < 1e-5


def test_new_stacked_layers_learn_from_the_start(tmp_path: Path) -> None:
    donor = stacked("Loop", 16, 2)
    prediction, _ = _inherit(stacked("Loop", 16, 4, seed=1), donor, tmp_path)
    theirs = {tensor.name: numpy_helper.to_array(tensor) for tensor in donor.graph.initializer}
    np.testing.assert_array_equal(prediction["v"], theirs["v"][[0, 0, 1, 1]])
    np.testing.assert_array_equal(prediction["scale"], theirs["scale"][[0, 0, 1, 1]])
    np.testing.assert_array_equal(prediction["w"][[0, 2]], theirs["w"])
    assert not prediction["w"][[1, 3]].any()


def test_of_more_stacked_layers_the_first_are_taken(tmp_path: Path) -> None:
    donor = stacked("Scan", 16, 4)
    prediction, _ = _inherit(stacked("Scan", 16, 2, seed=1), donor, tmp_path)
    theirs = {tensor.name: numpy_helper.to_array(tensor) for tensor in donor.graph.initializer}
    for name in ("v", "w", "scale"):
        np.testing.assert_array_equal(prediction[name], theirs[name][:2])
    assert prediction.inheritance is not None
    assert not prediction.inheritance.is_exact


def test_stacked_norms_behind_sums_are_not_called_exact(tmp_path: Path) -> None:
    own = stacked("Loop", 16, 4, is_post=True, seed=1)
    prediction, _ = _inherit(own, stacked("Loop", 16, 2, is_post=True), tmp_path)
    assert prediction.inheritance is not None
    assert not prediction.inheritance.is_exact
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in own.graph.initializer}
    np.testing.assert_array_equal(prediction["w"][[1, 3]], before["w"][[1, 3]])
