"""Every stored tensor has one row, whatever reads it: random graphs, and what single rows say."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_models import Net
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.graph import ComputationGraph, Role, ledger, weights
from onnx_ghn.graph.builder import build_graph
from onnx_ghn.inspection import inspect_model
from onnx_ghn.onnx_io import read_model, stored_tensors
from onnx_ghn.passes import open_model

_UNARY = ("Relu", "Sigmoid", "Round", "Sign", "Exp", "Neg", "Identity", "Floor", "Sqrt", "IsNaN", "Softmax", "Shape")
_BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Pow", "Greater", "PRelu", "MatMul", "Where", "Mystery")
_SHAPES = ((), (1,), (4,), (1, 4), (4, 4), (2, 1, 4), (3, 4, 4))


def _random_model(seed: int) -> onnx.ModelProto:
    """2 to 12 operators over one another's results and over tensors stored in four forms. It need not run."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []
    values = ["x"]

    def stored() -> str:
        name = f"t{len(initializers) + len(nodes)}"
        shape = _SHAPES[rng.integers(len(_SHAPES))]
        kind = rng.choice(["float", "float", "float", "double", "half", "int64", "int8", "bool", "complex64"])
        array = (rng.standard_normal(shape) * 3).astype({"half": "float16", "float": "float32"}.get(kind, kind))
        tensor = numpy_helper.from_array(array, name)
        match rng.integers(4):
            case 0:
                nodes.append(helper.make_node("Constant", [], [name], value=tensor))
            case 1:
                shape_name = f"{name}_shape"
                initializers.append(numpy_helper.from_array(np.array(shape, np.int64), shape_name))
                nodes.append(helper.make_node("ConstantOfShape", [shape_name], [name]))
            case _:
                initializers.append(tensor)
        return name

    for number in range(rng.integers(2, 13)):
        out = f"v{number}"
        if rng.random() < 0.3:
            nodes.append(helper.make_node(str(rng.choice(_UNARY)), [str(rng.choice(values))], [out]))
        else:
            kind = str(rng.choice(_BINARY))
            given = [str(rng.choice(values)) if rng.random() < 0.5 else stored() for _ in range(2)]
            given = ["x", *given] if kind == "Where" else given
            domain = "acme" if kind == "Mystery" else ""
            nodes.append(helper.make_node(kind, given, [out], domain=domain))
        values.append(out)
    if rng.random() < 0.3:  # a body that reads a tensor of its own and one from outside
        inner = helper.make_graph(
            [helper.make_node("Mul", ["x", "inside"], ["m"]), helper.make_node("Add", ["m", values[-1]], ["o"])],
            "body",
            [],
            [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.ones((2, 4), np.float32) / 3, "inside")],
        )
        initializers.append(numpy_helper.from_array(np.array(True), "flag"))
        nodes.append(helper.make_node("If", ["flag"], ["last"], then_branch=inner, else_branch=inner))
        values.append("last")
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info(values[-1], TensorProto.FLOAT, None)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("acme", 1)])


def _check_sums(model: onnx.ModelProto) -> ComputationGraph:
    graph = build_graph(model)
    rows = [*graph.parameters, *graph.uncertain, *graph.constants]
    stored = stored_tensors(read_model(model))
    assert sorted(row.name for row in rows) == sorted(stored)
    assert sum(row.size for row in rows) == sum(int(np.prod(t.shape)) for t in stored.values())
    assert all(row.reason for row in (*graph.uncertain, *graph.constants))
    return graph


@pytest.mark.parametrize("block", range(4))
def test_rows_add_up(block: int) -> None:
    for seed in range(50 * block, 50 * (block + 1)):
        _check_sums(_random_model(seed))


@pytest.mark.slow
def test_rows_of_two_thousand_graphs_add_up() -> None:
    for seed in range(2000):
        _check_sums(_random_model(seed))


def _model(nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], out: str = "y") -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()],
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains)


def _draw(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) + 2).astype(np.float32)


N = helper.make_node
_LAYER = N("MatMul", ["x", "w"], ["a"])


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [
        ([N("Sub", ["a", "t"], ["y"])], (8,)),
        ([N("Div", ["a", "t"], ["y"])], (8,)),
        ([N("Max", ["a", "t"], ["y"])], (8,)),
        ([N("Abs", ["a"], ["q"]), N("Pow", ["q", "t"], ["y"])], (8,)),
        ([N("Mul", ["a", "t"], ["y"])], ()),
        ([N("Mul", ["a", "t"], ["y"])], (3, 1, 8)),
        ([N("Exp", ["t"], ["e"]), N("Neg", ["e"], ["n"]), N("Mul", ["a", "n"], ["y"])], (6, 8)),
    ],
)
def test_what_may_be_learned_keeps_its_values(nodes: list[onnx.NodeProto], shape: tuple[int, ...]) -> None:
    model = _model([_LAYER, *nodes], {"w": _draw(4, 8), "t": _draw(*shape, seed=1)})
    coverage = inspect_model(model, policy="all").coverage
    row = next(entry for entry in coverage.entries if entry.parameter.name == "t")
    assert (row.outcome, row.parameter.uncertain, row.parameter.shape) == ("kept", True, shape)
    assert row.reason.startswith("may be learned, or a constant")
    assert coverage.n_trainable == 32  # w alone
    assert coverage.share("predicted") == 1


@pytest.mark.parametrize(
    ("nodes", "tensors", "reason"),
    [
        ([N("Clip", ["a", "t", ""], ["y"])], {"t": np.float32(-1)}, "a setting of Clip"),
        (
            [N("Pad", ["a", "pads", "t"], ["y"])],
            {"pads": np.zeros(4, np.int64), "t": np.float32(3)},
            "a setting of Pad",
        ),
        (
            [N("Add", ["a", "t"], ["y"])],
            {"t": np.triu(np.full((8, 8), -np.inf), 1).astype(np.float32)},
            "a mask or a grid",
        ),
        (  # as onnxruntime-genai's builder writes attention: sines of positions that nobody learns
            [
                N(
                    "GroupQueryAttention",
                    ["a", "", "", "", "", "last", "total", "t", "sin"],
                    ["y"],
                    domain="com.microsoft",
                    num_heads=2,
                    kv_num_heads=1,
                    do_rotary=1,
                )
            ],
            {
                "t": np.cos(_draw(16, 1)),
                "sin": np.sin(_draw(16, 1)),
                "last": np.zeros(1, np.int32),
                "total": np.ones((), np.int32),
            },
            "a setting of GroupQueryAttention",
        ),
        ([N("Reshape", ["a", "t"], ["y"])], {"t": np.array([-1, 2, 4])}, "whole numbers"),
        ([N("Identity", ["a"], ["y"])], {"t": _draw(3, 3)}, "no path leads from it"),
        ([N("Shape", ["t"], ["s"]), N("Reshape", ["a", "s"], ["y"])], {"t": _draw(2, 4)}, "no path leads from it"),
    ],
)
def test_why_a_tensor_is_a_constant(nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], reason: str) -> None:
    graph = _check_sums(_model([_LAYER, *nodes], {"w": _draw(4, 8), **tensors}))
    assert [row.name for row in graph.parameters] == ["w"]
    assert next(row for row in graph.constants if row.name == "t").reason.startswith(reason)


def _coordinates(axis: int) -> np.ndarray:
    """Where each of 5 × 7 places lies, on a scale of logarithms."""
    y, x = np.meshgrid(np.log2(np.arange(1.0, 6)), np.log2(np.arange(3.0, 10)), indexing="ij")
    return np.stack((y, x), axis=axis).astype(np.float32)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("is_drawn", [False, True])
def test_a_network_of_positions_is_given_a_grid(axis: int, is_drawn: bool) -> None:
    table = _coordinates(axis)
    if is_drawn:  # one place alone is off the grid
        table[1, 1, 1] += 0.01
    turned = [N("Transpose", ["t"], ["p"], perm=[1, 2, 0])] if axis == 0 else [N("Identity", ["t"], ["p"])]
    nodes = [
        *turned,
        N("MatMul", ["p", "u"], ["h"]),
        N("Relu", ["h"], ["r"]),
        N("MatMul", ["r", "v"], ["bias"]),
        N("Add", ["a", "bias"], ["y"]),
    ]
    tensors = {"w": _draw(4, 8), "t": table, "u": _draw(2, 64, seed=1), "v": _draw(64, 8, seed=2)}
    graph = _check_sums(_model([_LAYER, *nodes], tensors))
    learned = {row.name for row in graph.parameters}
    assert learned == ({"w", "u", "v", "t"} if is_drawn else {"w", "u", "v"})
    assert [row.reason.split(":")[0] for row in graph.constants] == ([] if is_drawn else ["a mask or a grid"])


def test_a_quantised_table_of_words_is_learned() -> None:
    nodes = [
        N("DequantizeLinear", ["q", "s", "z"], ["words"]),
        N("Cast", ["x"], ["i"], to=TensorProto.INT64),
        N("Gather", ["words", "i"], ["e"]),
        N("MatMul", ["e", "w"], ["y"]),
    ]
    table = np.random.default_rng(0).integers(-127, 128, (9, 4)).astype(np.int8)
    tensors = {"q": table, "s": np.float32(0.01), "z": np.int8(0), "w": _draw(4, 8)}
    graph = _check_sums(_model(nodes, tensors))
    assert {row.name: row.role for row in graph.parameters} == {"q": Role.embedding, "w": Role.weight}
    assert not graph.uncertain


@pytest.mark.parametrize(
    "end",
    [
        [N("ArgMax", ["b"], ["y"], axis=1)],
        [N("Round", ["b"], ["r"]), N("Cast", ["r"], ["y"], to=TensorProto.UINT8)],
        [N("Sign", ["b"], ["s"]), N("MatMul", ["s", "last"], ["y"])],
        [N("Greater", ["b", "zero"], ["g"]), N("Cast", ["g"], ["s"], to=1), N("MatMul", ["s", "last"], ["y"])],
        [N("TopK", ["b", "two"], ["", "y"])],
    ],
)
def test_weights_before_what_has_no_gradient_are_read(end: list[onnx.NodeProto]) -> None:
    tensors = {"w": _draw(4, 8), "v": _draw(8, 5, seed=1), "last": _draw(5, 3, seed=2)}
    tensors |= {"zero": np.float32(0), "two": np.array([2])}
    graph = build_graph(_model([_LAYER, N("Relu", ["a"], ["h"]), N("MatMul", ["h", "v"], ["b"]), *end], tensors))
    decoded = {graph.parameters[i].name for i in graph.decoded_parameters()}
    assert {"w", "v"} <= decoded
    assert not any("no path" in p.reason for p in graph.parameters)


def test_a_weight_whose_shape_alone_is_used_has_no_path() -> None:
    nodes = [_LAYER, N("MatMul", ["x", "v"], ["b"]), N("Shape", ["b"], ["s"]), N("Reshape", ["a", "s"], ["y"])]
    graph = build_graph(_model(nodes, {"w": _draw(4, 8), "v": _draw(4, 8, seed=1)}))
    assert {p.name: p.reason for p in graph.parameters} == {"w": "", "v": "no path leads through it to an output"}


def test_zeros_that_a_state_starts_from_are_data() -> None:
    nodes = [
        N("ConstantOfShape", ["shape"], ["h0"]),
        _LAYER,
        N("MatMul", ["h0", "u"], ["b"]),
        N("Add", ["a", "b"], ["s"]),
        N("Tanh", ["s"], ["y"]),
    ]
    graph = _check_sums(_model(nodes, {"w": _draw(4, 8), "u": _draw(8, 8, seed=1), "shape": np.array([1, 8])}))
    assert {p.name: p.role.value for p in graph.parameters} == {"w": "weight", "u": "weight"}
    assert next(row for row in graph.constants if row.name == "h0").reason == "zeros that the computation starts from"


def test_zeros_in_the_place_of_stripped_weights_are_weights() -> None:
    nodes = [N("ConstantOfShape", ["shape"], ["w"]), N("MatMul", ["x", "w"], ["y"])]
    graph = build_graph(_model(nodes, {"shape": np.array([4, 8])}))
    assert [(p.name, p.role.value) for p in graph.parameters] == [("w", "weight")]


def test_the_condition_and_the_states_of_a_loop_are_reached() -> None:
    """The first state reaches the output only by way of the second, in the turn after."""
    f32, i64, boolean = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
    body = helper.make_graph(
        [
            N("MatMul", ["p", "wp"], ["p2"]),
            N("Add", ["p", "q"], ["q2"]),
            N("Identity", ["c"], ["c2"]),
        ],
        "body",
        [
            helper.make_tensor_value_info(n, t, s)
            for n, t, s in (("i", i64, []), ("c", boolean, []), ("p", f32, [1, 4]), ("q", f32, [1, 4]))
        ],
        [
            helper.make_tensor_value_info(n, t, s)
            for n, t, s in (("c2", boolean, []), ("p2", f32, [1, 4]), ("q2", f32, [1, 4]))
        ],
    )
    nodes = [N("Loop", ["times", "go", "x", "x"], ["unused", "y"], body=body)]
    model = _model(nodes, {"wp": _draw(4, 4), "times": np.array(3), "go": np.array(True)})
    graph = _check_sums(model)
    reasons = {row.name: row.reason for row in (*graph.parameters, *graph.constants)}
    assert "no path" not in " ".join(reasons.values()), reasons


def _files_of_others(folder: Path) -> list[Path]:
    """Files that the onnx package ships, and those of other people's projects where they are at hand."""
    files = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data").glob("*/*/model.onnx"))
    kinds = ("light", "simple", "pytorch-converted", "pytorch-operator")
    found = [file for file in files if file.parent.parent.name in kinds]
    archive = Path(__file__).parents[3] / "shared" / "datasets" / "real-onnx" / "files.zip"
    if archive.exists():
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        found += sorted(folder.rglob("*.onnx"))
    return found


def test_rows_of_real_files_add_up(tmp_path: Path) -> None:
    files = _files_of_others(tmp_path)
    assert len(files) > 50
    for file in files:
        opened = open_model(file)
        graph = build_graph(opened.model)
        rows = [*graph.parameters, *graph.uncertain, *graph.constants]
        assert sorted(row.name for row in rows) == sorted(opened.stored), file
        assert sum(row.size for row in rows) == sum(int(np.prod(t.shape)) for t in opened.stored.values()), file


def test_long_arithmetic_on_constants_is_walked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step was walked from each stored tensor, and made lists of all tensors before it: files took seconds."""
    n, visits = 400, []
    net = Net()
    deep = net.number([4, 4], np.int64)
    for _ in range(n):
        deep = net.op("Add", deep, net.number([0], np.int64))
    y = net.op("Reshape", net.weight(4, 4, name="w"), deep)
    model = net.model(net.linear(net.op("MatMul", net.input(2, 4), y), 4, 4, "last"))
    for module, name in ((ledger, "_is_constant"), (weights, "_leaves")):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda it, of=function: (visits.append(it), of(it))[1])
    graph = build_graph(model)
    assert len(visits) < 10 * n
    assert sum("whole numbers" in p.reason for p in graph.constants) == n + 1
    assert "w" in {p.name for p in graph.parameters}


def test_uses_behind_a_fork_are_found_from_each_side() -> None:
    """Two constants meet in a sum that two operators read, one of them through a further constant."""
    net = Net()
    x = net.input(2, 4)
    both = net.op("Add", net.weight(4, name="a"), net.weight(4, name="b"))
    y = net.op("Mystery", net.op("Mystery", x, both), net.op("Neg", both))
    graph = build_graph(net.model(y))
    rows = {p.name: p.op for p in (*graph.parameters, *graph.uncertain, *graph.constants)}
    assert rows == {"a": "Mystery", "b": "Mystery"}


def test_an_embedding_with_a_masked_row_is_learned_and_a_mask_is_not() -> None:
    """Biases of attention by distance, whose row for padding is minus infinity, beside a mask and slopes with one."""
    net = Net()
    table = net.array(13, 16)
    table[0] = -np.inf
    slopes = -0.3 * np.abs(np.arange(6)[:, None] - np.arange(6)).astype(np.float32)
    masked = np.where(np.tri(6, dtype=bool), slopes, -np.inf)
    scores = net.input(6, 6, 16)
    looked_up = net.op(
        "Gather", net.weight(name="table", array=table), net.input(6, 6, name="i", kind=TensorProto.INT64)
    )
    biased = net.op("Add", scores, looked_up)
    moved = net.op("Transpose", biased, perm=[2, 0, 1])
    y = net.op("Softmax", net.op("Add", moved, net.weight(name="masked", array=masked)))
    model = net.model(y)
    graph = build_graph(model)
    assert {p.name: p.role for p in graph.parameters} == {"table": Role.embedding}
    assert {row.name for row in graph.constants if "mask" in row.reason} == {"masked"}
    (decided,) = inspect_model(model, policy="all").coverage.entries
    assert (decided.outcome, decided.reason) == (
        "kept",
        "the author's start: some of it is minus infinity, which masks what it is added to",
    )


@pytest.mark.parametrize("value", [-np.inf, np.nan, np.finfo(np.float32).min, -1e4, 0.3])
def test_a_number_beyond_what_is_trained_is_a_bound(value: float) -> None:
    net = Net()
    x = net.linear(net.input("N", 4), 4, 4, "w")
    graph = build_graph(net.model(net.op("Max", x, net.weight(name="least", array=np.array(value, np.float32)))))
    assert [row.name for row in graph.uncertain] == (["least"] if value == 0.3 else [])
