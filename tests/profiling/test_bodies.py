"""Bodies of loops and branches: what grows, and names that occur twice."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.profiling import rewriting
from onnx_ghn.profiling.measuring import estimate_point, measure_point
from onnx_ghn.profiling.report import Machine, OperatorProfile, PointResult
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.profiling.specs import model_spec

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node, info = helper.make_node, helper.make_tensor_value_info


def tensor(name: str, value: object, dtype: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def model(nodes, inputs, outputs, tensors) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(proto)
    return proto


def operators(path: str, level: str = "none") -> OperatorProfile:
    found = measure_point(path, model_spec(path).inputs, Point(optimization=level), Settings(warmup=0, iterations=2))
    assert found.operators is not None
    return found.operators


def growing(turns: int, width: int, appended: int) -> onnx.ModelProto:
    """Each turn multiplies all rows so far, and appends the last rows of the product."""
    body = helper.make_graph(
        [
            node("MatMul", ["s", "V"], ["mm"], "product"),
            node("Slice", ["mm", "from", "to"], ["rows"], "last"),
            node("Concat", ["s", "rows"], ["s2"], "append", axis=0),
            node("Identity", ["ci"], ["co"], "go_on"),
        ],
        "body",
        [info("i", INT64, []), info("ci", BOOL, []), info("s", FLOAT, [None, width])],
        [info("co", BOOL, []), info("s2", FLOAT, [None, width])],
    )
    tensors = [
        tensor("V", np.full((width, width), 0.01)),
        tensor("n", turns, np.int64),
        tensor("go", True, np.bool_),
        tensor("from", [-appended], np.int64),
        tensor("to", [2**31], np.int64),
    ]
    loop = node("Loop", ["n", "go", "x"], ["y"], "loop", body=body)
    return model([loop], [info("x", FLOAT, [appended, width])], [info("y", FLOAT, [None, width])], tensors)


@pytest.mark.parametrize(("turns", "width", "appended"), [(10, 16, 1), (3, 8, 4), (1, 8, 2)])
def test_a_growing_state(save, turns: int, width: int, appended: int) -> None:
    profile = operators(save(growing(turns, width, appended)))
    product = next(entry for entry in profile.operators if entry.op_type == "MatMul")
    rows = [appended * (turn + 1) for turn in range(turns)]
    assert product.macs == profile.macs == sum(rows) * width * width
    assert product.calls == turns
    # Rows in and out, and the matrix, at each turn.
    assert product.bytes == sum(4 * (2 * n * width + width * width) for n in rows)
    assert product.flops == 2 * product.macs
    assert profile.unknown == 0


@pytest.mark.parametrize("level", ["none", "all"])
@pytest.mark.parametrize("turns", [2, 5])
def test_a_node_of_a_body_with_the_name_of_one_outside(save, turns: int, level: str) -> None:
    """Both are MatMul nodes, the first of their graphs, called `product`, and give a value of their own."""
    body = helper.make_graph(
        [node("MatMul", ["s", "small"], ["s2"], "product"), node("Identity", ["ci"], ["co"], "go_on")],
        "body",
        [info("i", INT64, []), info("ci", BOOL, []), info("s", FLOAT, [2, 4])],
        [info("co", BOOL, []), info("s2", FLOAT, [2, 4])],
    )
    rng = np.random.default_rng(0)
    tensors = [tensor("large", rng.standard_normal((16, 4))), tensor("small", rng.standard_normal((4, 4)) / 4)]
    tensors += [tensor("n", turns, np.int64), tensor("go", True, np.bool_)]
    nodes = [node("MatMul", ["x", "large"], ["a"], "product"), node("Loop", ["n", "go", "a"], ["y"], "loop", body=body)]
    profile = operators(save(model(nodes, [info("x", FLOAT, [2, 16])], [info("y", FLOAT, [2, 4])], tensors)), level)
    products = [entry for entry in profile.operators if entry.op_type == "MatMul"]
    assert [entry.macs for entry in products] == [2 * 16 * 4, turns * 2 * 4 * 4]
    assert [entry.parameters for entry in products] == [64, 16]
    assert [entry.covers for entry in products] == [("product",), ("product",)]


def test_branches_whose_values_have_the_same_names(save) -> None:
    """The branch that runs is the second; its nodes cover its own nodes."""

    def branch(name: str, op_type: str) -> onnx.GraphProto:
        nodes = [
            node("MatMul", ["x", f"w_{name}"], ["m"], f"{name}_product"),
            node(op_type, ["m"], ["r"], f"{name}_end"),
        ]
        return helper.make_graph(nodes, name, [], [info("r", FLOAT, [2, None])])

    tensors = [tensor("w_yes", np.ones((4, 8))), tensor("w_no", np.ones((4, 3)))]
    choice = node("If", ["which"], ["y"], "choice", then_branch=branch("yes", "Relu"), else_branch=branch("no", "Tanh"))
    inputs = [info("x", FLOAT, [2, 4]), info("which", BOOL, [])]
    path = save(model([choice], inputs, [info("y", FLOAT, [2, None])], tensors))
    settings = Settings(warmup=0, iterations=2, seed=0)
    ran: set[str] = set()
    for seed in range(8):  # the condition is drawn: both branches run at some seed
        found = measure_point(
            path, model_spec(path).inputs, Point(optimization="none"), Settings(**{**vars(settings), "seed": seed})
        )
        (product,) = [entry for entry in found.operators.operators if entry.op_type == "MatMul"]
        (name,) = product.covers
        assert product.macs == 2 * 4 * (8 if name == "yes_product" else 3)
        assert {c for entry in found.operators.operators for c in entry.covers} >= {
            name,
            name.replace("product", "end"),
        }
        ran.add(name)
    assert ran == {"yes_product", "no_product"}


def test_names_are_given_back() -> None:
    proto = growing(2, 4, 1)
    body = proto.graph.node[0].attribute[0].g
    body.node[0].name = body.node[2].name = "loop"
    renamed = rewriting.distinguish_nodes(proto)
    names = [entry.name for graph in rewriting.graphs(proto.graph) for entry in graph.node]
    assert len(set(names)) == len(names) == 5
    rewriting.give_back_names(renamed)
    assert [entry.name for entry in body.node] == ["loop", "last", "loop", "go_on"]


@pytest.mark.parametrize("level", ["none", "basic", "all"])
def test_half_precision_is_told_as_the_file_has_it(save, level: str) -> None:
    rng = np.random.default_rng(0)
    half = TensorProto.FLOAT16
    sizes = {"w": (8, 3, 3, 3), "b": (8,), "fw": (5, 8), "fb": (5,)}
    tensors = [tensor(name, rng.standard_normal(size), np.float16) for name, size in sizes.items()]
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1] * 4),
        node("Relu", ["c"], ["d"], "relu"),
        node("GlobalAveragePool", ["d"], ["e"], "pool"),
        node("Flatten", ["e"], ["f"], "flat"),
        node("Gemm", ["f", "fw", "fb"], ["y"], "fc", transB=1),
    ]
    path = save(model(nodes, [info("x", half, [1, 3, 8, 8])], [info("y", half, [1, 5])], tensors))
    profile = operators(path, level)
    n_weights = 8 * 3 * 9 + 8 + 40 + 5
    assert profile.parameters == model_spec(path).parameters == n_weights
    assert profile.parameter_bytes == 2 * n_weights
    assert profile.macs == 8 * 8 * 8 * 3 * 9 + 8 * 5
    covered = [name for entry in profile.operators for name in entry.covers]
    assert sorted(covered) == ["conv", "fc", "flat", "pool", "relu"]
    by_name = {name: entry for entry in profile.operators for name in entry.covers}
    assert by_name["conv"].parameters == 8 * 3 * 9 + 8
    assert by_name["fc"].parameter_bytes == 2 * 45
    assert by_name["fc"].op_type == "Gemm"


# -- without running ---------------------------------------------------------------------------------------


def loop_body(extra: list[onnx.NodeProto], go_on: str, state: str) -> onnx.GraphProto:
    return helper.make_graph(
        extra,
        "body",
        [info("i", INT64, []), info("ci", BOOL, []), info("s", FLOAT, [2, 4])],
        [info(go_on, BOOL, []), info(state, FLOAT, [2, 4])],
    )


def looped(count: str, condition: str, *, stops: bool = False) -> onnx.ModelProto:
    """A Loop whose body multiplies a matrix of 2 × 4 by one of 4 × 4, and so does a loop of three turns in it."""
    inner = helper.make_graph(
        [node("MatMul", ["s_in", "V"], ["t"], "inner_product"), node("Identity", ["cj"], ["ck"], "inner_go_on")],
        "inner",
        [info("j", INT64, []), info("cj", BOOL, []), info("s_in", FLOAT, [2, 4])],
        [info("ck", BOOL, []), info("t", FLOAT, [2, 4])],
    )
    steps = [
        node("MatMul", ["s", "V"], ["a"], "outer_product"),
        node("Loop", ["three", "", "a"], ["s2"], "inner_loop", body=inner),
    ]
    if stops:
        steps += [
            node("ReduceMax", ["s2"], ["most"], "most", keepdims=0),
            node("Less", ["most", "one"], ["co"], "less"),
        ]
    else:
        steps += [node("Identity", ["ci"], ["co"], "go_on")]
    tensors = [tensor("V", np.eye(4) / 2), tensor("five", 5, np.int64), tensor("three", 3, np.int64)]
    tensors += [tensor("yes", True, np.bool_), tensor("one", 1.0)]
    loop = node("Loop", [count, condition, "x"], ["y"], "outer_loop", body=loop_body(steps, "co", "s2"))
    inputs = [info("x", FLOAT, [2, 4])] + ([info("n", INT64, [])] if count == "n" else [])
    return model([loop], inputs, [info("y", FLOAT, [2, 4])], tensors)


def estimated(path: str, level: str) -> PointResult:
    machine = Machine("CPUExecutionProvider", 1, 1e9, 1e9, 1e9, 0.0, 0)
    return estimate_point(path, model_spec(path).inputs, Point(optimization=level), Settings(), machine)


@pytest.mark.parametrize("level", ["none", "all"])
@pytest.mark.parametrize("condition", ["yes", ""])
def test_loops_of_a_stored_number_of_turns_are_estimated_as_they_run(save, level: str, condition: str) -> None:
    path = save(looped("five", condition))
    found = estimated(path, level)
    assert found.operators is not None
    by_name = {entry.name: entry.macs for entry in found.operators.operators if entry.op_type == "MatMul"}
    assert by_name == {"outer_product": 5 * 2 * 4 * 4, "inner_product": 5 * 3 * 2 * 4 * 4}
    assert found.operators.macs == operators(path, level).macs == 20 * 32
    assert not any("Loop" in note for note in found.notes)


@pytest.mark.parametrize(("count", "condition", "stops"), [("n", "", False), ("five", "yes", True)])
def test_a_loop_whose_turns_only_a_run_tells_has_no_count(save, count: str, condition: str, stops: bool) -> None:
    found = estimated(save(looped(count, condition, stops=stops)), "none")
    assert found.operators is not None
    products = [entry for entry in found.operators.operators if entry.op_type == "MatMul"]
    assert [(entry.macs, entry.bytes, entry.estimate_ms) for entry in products] == [(None, None, None)] * 2
    assert found.operators.macs == 0
    assert found.operators.unknown >= 2
    assert any("body of a Loop" in note for note in found.notes)


@pytest.mark.parametrize(("axis", "turns"), [(0, 6), (1, 3)])
def test_a_scan_is_estimated_by_the_axis_that_it_goes_along(save, axis: int, turns: int) -> None:
    rows = 3 if axis == 0 else 6
    body = helper.make_graph(
        [node("MatMul", ["row", "V"], ["product"], "product"), node("Add", ["product", "s"], ["s2"], "sum")],
        "body",
        [info("s", FLOAT, [rows, 4]), info("row", FLOAT, [rows, 4])],
        [info("s2", FLOAT, [rows, 4])],
    )
    scan = node("Scan", ["start", "x"], ["y"], "scan", body=body, num_scan_inputs=1, scan_input_axes=[axis])
    tensors = [tensor("V", np.eye(4)), tensor("start", np.zeros((rows, 4)))]
    path = save(model([scan], [info("x", FLOAT, [6, 3, 4])], [info("y", FLOAT, [rows, 4])], tensors))
    found = estimated(path, "none")
    assert found.operators is not None
    assert found.operators.macs == turns * rows * 4 * 4 == operators(path).macs
