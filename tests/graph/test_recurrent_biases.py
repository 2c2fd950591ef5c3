"""An operator takes two biases where Keras has one: the zeros that fill the second are nobody's parameter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import onnx_ghn
from onnx_ghn.graph import Role, build_graph
from onnx_ghn.inspection import inspect_model
from onnx_ghn.onnx_io.marks import mark

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN, WIDTH = 5, 3


def recurrent(op: str, first: float, second: float, *, directions: int = 1, **attributes: int) -> onnx.ModelProto:
    """A layer whose biases of the inputs, and of the state, are multiples of drawn values."""
    rng = np.random.default_rng(0)
    rows = GATES[op] * HIDDEN
    halves = (
        rng.normal(size=(directions, 2, rows)) * np.array([first, second])[:, None]
    )  # (directions, 2, gates·hidden)
    tensors = {
        "W": rng.normal(size=(directions, rows, WIDTH)),
        "R": rng.normal(size=(directions, rows, HIDDEN)),
        "B": halves.reshape(directions, 2 * rows),
    }
    direction = "bidirectional" if directions == 2 else "forward"
    node = helper.make_node(op, ["x", *tensors], ["y"], hidden_size=HIDDEN, direction=direction, **attributes)
    x = helper.make_tensor_value_info("x", 1, [4, 2, WIDTH])
    y = helper.make_tensor_value_info("y", 1, [4, directions, 2, HIDDEN])
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()]
    graph = helper.make_graph([node], "g", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def in_matrices(op: str, directions: int = 1) -> int:
    return directions * GATES[op] * HIDDEN * (WIDTH + HIDDEN)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(
    ("op", "attributes"),
    [("LSTM", {}), ("RNN", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 0})],
    ids=["lstm", "rnn", "gru", "gru before"],
)
def test_a_second_bias_of_zeros_is_no_parameter(
    op: str, attributes: dict[str, int], directions: int, tmp_path: Path
) -> None:
    proto = recurrent(op, 1, 0, directions=directions, **attributes)
    expected = in_matrices(op, directions) + directions * GATES[op] * HIDDEN
    coverage = inspect_model(proto, policy="all").coverage
    assert coverage.n_trainable == coverage.n_elements("predicted") == expected
    assert coverage.n_elements("frozen") == directions * GATES[op] * HIDDEN
    assert coverage.share("predicted") == 1
    assert f"{expected:,} trainable elements" in repr(build_graph(proto))
    onnx_ghn.predict(proto, tmp_path / "o.onnx", policy="all", calibrate="none")
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "o.onnx").graph.initializer}
    biases = stored["B"].reshape(directions, 2, -1)
    assert not biases[:, 1].any()
    assert not np.array_equal(stored["W"], numpy_helper.to_array(proto.graph.initializer[0]))


@pytest.mark.parametrize(
    ("op", "first", "second", "attributes"),
    [
        ("LSTM", 1, 1, {}),
        ("LSTM", 0, 0, {}),  # fresh, be it of one bias or of two: nothing tells
        ("RNN", 0, 1, {}),
        ("GRU", 1, 0, {"linear_before_reset": 1}),  # the reset gate lies between the two: each has its own effect
    ],
)
def test_biases_of_which_nothing_tells_are_counted(
    op: str, first: float, second: float, attributes: dict[str, int]
) -> None:
    coverage = inspect_model(recurrent(op, first, second, **attributes), policy="all").coverage
    assert coverage.n_trainable == in_matrices(op) + 2 * GATES[op] * HIDDEN
    assert coverage.n_elements("frozen") == 0


def test_one_direction_of_two_with_a_second_bias_keeps_both(tmp_path: Path) -> None:
    proto = recurrent("LSTM", 1, 0, directions=2)
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == "B")
    values = numpy_helper.to_array(tensor).copy()
    values[1, -1] = 0.25
    tensor.CopyFrom(numpy_helper.from_array(values, "B"))
    assert inspect_model(proto, policy="all").coverage.n_elements("frozen") == 0


def test_what_the_trace_calls_a_weight_is_one_although_it_is_zero() -> None:
    model = ir.from_proto(recurrent("LSTM", 1, 0))
    mark(model, json.dumps({"stored": {"W": [], "R": [], "B": []}}), {})
    assert inspect_model(ir.to_proto(model), policy="all").coverage.n_trainable == in_matrices("LSTM") + 40


def test_what_the_trace_calls_untrained_is_not_counted() -> None:
    model = ir.from_proto(recurrent("LSTM", 0, 0))
    mark(model, json.dumps({"stored": {"W": [], "R": [], "B": []}}), {"B": ((20, 40),)})
    assert inspect_model(ir.to_proto(model), policy="all").coverage.n_trainable == in_matrices("LSTM") + 20


@pytest.mark.parametrize(("rows", "width"), [(2, 15), (2, 12), (3, 6)])
@pytest.mark.parametrize("of_products", [True, False])
@pytest.mark.parametrize("by", ["Split", "Gather"])
def test_rows_that_are_added_to_products_are_biases(by: str, rows: int, width: int, of_products: bool) -> None:
    """As TensorFlow and torch write Keras's GRU; rows that are added to what is no product may be positions."""
    rng = np.random.default_rng(0)
    tensors = {
        "table": rng.normal(size=(rows, width)),
        **{f"w{i}": rng.normal(size=(4, width)) for i in range(rows)},
        **{f"index{i}": np.array(i, np.int64) for i in range(rows)},
        "axes": np.array([0], np.int64),
    }
    nodes = [helper.make_node("Split", ["table"], [f"piece{i}" for i in range(rows)], axis=0)] if by == "Split" else []
    for i in range(rows):
        last = f"product{i}" if of_products else f"curve{i}"
        nodes += [
            helper.make_node("Squeeze", [f"piece{i}", "axes"], [f"row{i}"])
            if by == "Split"
            else helper.make_node("Gather", ["table", f"index{i}"], [f"row{i}"], axis=0),
            helper.make_node("MatMul", ["x", f"w{i}"], [f"product{i}"]),
            *([] if of_products else [helper.make_node("Tanh", [f"product{i}"], [last])]),
            helper.make_node("Add", [last, f"row{i}"], [f"y{i}"]),
        ]
    values = [helper.make_tensor_value_info("x", 1, [3, 4])]
    outputs = [helper.make_tensor_value_info(f"y{i}", 1, [3, width]) for i in range(rows)]
    initializers = [
        numpy_helper.from_array(value if value.dtype == np.int64 else value.astype(np.float32), name)
        for name, value in tensors.items()
    ]
    graph = helper.make_graph(nodes, "g", values, outputs, initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    parameters = {parameter.name: parameter for parameter in build_graph(proto).parameters}
    assert parameters["table"].role is (Role.bias if of_products else Role.position)
    if of_products:
        assert parameters["table"].layout.canonical == (rows * width,)


def test_rows_of_a_table_that_a_loop_hands_on_are_biases() -> None:
    """As tf2onnx writes Keras's GRU: the table enters the loop as a state, which each step leaves as it is."""
    rng = np.random.default_rng(0)
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Split", ["t"], ["p0", "p1"], axis=0),
            *(helper.make_node("Squeeze", [f"p{i}", "axes"], [f"row{i}"]) for i in range(2)),
            *(helper.make_node("MatMul", ["h", f"w{i}"], [f"m{i}"]) for i in range(2)),
            *(helper.make_node("Add", [f"m{i}", f"row{i}"], [f"a{i}"]) for i in range(2)),
            helper.make_node("Mul", ["a0", "a1"], ["next"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "step",
        [value("i", 7, []), value("go", 9, []), value("h", 1, [3, 6]), value("t", 1, [2, 6])],
        [value("on", 9, []), value("next", 1, [3, 6]), value("t", 1, [2, 6])],
    )
    tensors = {
        "n": np.array(4, np.int64),
        "axes": np.array([0], np.int64),
        "table": rng.normal(size=(2, 6)).astype(np.float32),
        **{f"w{i}": rng.normal(size=(6, 6)).astype(np.float32) for i in range(2)},
    }
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "", "x", "table"], ["y", "unread"], body=body)],
        "g",
        [value("x", 1, [3, 6])],
        [value("y", 1, [3, 6])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    roles = {parameter.name: parameter.role for parameter in build_graph(proto).parameters}
    assert roles == {"table": Role.bias, "w0": Role.weight, "w1": Role.weight}


@pytest.mark.parametrize("op", ["Conv", "LSTM"])
def test_a_bias_of_zeros_counts_like_that_of_any_layer(op: str) -> None:
    """A fresh network's biases are zeros: where no trace tells, what an operator takes for a bias is one."""
    if op == "LSTM":
        proto, n_weights, n_biases = recurrent("LSTM", 0, 0), in_matrices("LSTM"), 2 * GATES["LSTM"] * HIDDEN
    else:
        tensors = {"w": np.random.default_rng(0).normal(size=(4, 3, 3, 3)), "b": np.zeros(4)}
        graph = helper.make_graph(
            [helper.make_node("Conv", ["x", "w", "b"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", 1, [1, 3, 8, 8])],
            [helper.make_tensor_value_info("y", 1, [1, 4, 6, 6])],
            [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()],
        )
        proto, n_weights, n_biases = helper.make_model(graph), 108, 4
    coverage = inspect_model(proto, policy="all").coverage
    assert coverage.n_trainable == n_weights + n_biases
    assert not coverage.uncertain


@pytest.mark.parametrize(("value", "is_told"), [(0.0, False), (0.0, True), (0.5, False)])
def test_a_first_state_of_zeros_may_be_learned(value: float, is_told: bool) -> None:
    proto = recurrent("LSTM", 1, 1)
    node = proto.graph.node[0]
    node.input.extend(["", "h0"])
    state = np.full((1, 2, HIDDEN), value, np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(state, "h0"))
    model = ir.from_proto(proto)
    if is_told:
        mark(model, json.dumps({"stored": {"W": [], "R": [], "B": [], "h0": []}}), {})
    coverage = inspect_model(model, policy="all").coverage
    is_counted = is_told or value != 0
    own = in_matrices("LSTM") + 2 * GATES["LSTM"] * HIDDEN
    assert coverage.n_trainable == own + (2 * HIDDEN if is_counted else 0)
    assert [entry.parameter.name for entry in coverage.uncertain] == ([] if is_counted else ["h0"])
