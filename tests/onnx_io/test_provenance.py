"""What a file says of where its tensors come from."""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.graph import Role
from onnx_ghn.graph.builder import build_graph
from onnx_ghn.onnx_io import read_model, stored_tensors
from onnx_ghn.onnx_io.marks import frozen_tensors, mark
from onnx_ghn.onnx_io.provenance import Provenance, provenance

_KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
_FOLDED = "pkg.onnxscript.optimizer.folded_from"
_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"


def _model(**tensors: np.ndarray) -> ir.Model:
    """A product, a factor with several axes, and a sum: x @ w * gain + start."""
    names = list(tensors)
    nodes = [helper.make_node("MatMul", ["x", names[0]], ["v0"])]
    for number, name in enumerate(names[1:]):
        nodes.append(helper.make_node("Mul", [f"v{number}", name], [f"v{number + 1}"]))
    graph = helper.make_graph(
        nodes,
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in tensors.items()],
    )
    return read_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def _known(model: ir.Model) -> Provenance:
    return provenance(model, stored_tensors(model), frozen_tensors(model))


def _draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


def test_a_file_without_notes_says_nothing() -> None:
    assert _known(_model(w=_draw(4, 8), gain=_draw(3, 8))) == Provenance()


def test_a_trace_names_what_the_framework_trains() -> None:
    model = _model(w=_draw(4, 8), gain=_draw(3, 8), table=_draw(3, 8))
    mark(model, json.dumps({"stored": {"w": [4, 8], "gain": [3, 8]}}), {"table": None})
    known = _known(model)
    assert known.learned == {"w", "gain"}
    assert known.made == {"table": "the framework does not train it"}
    graph = build_graph(model)
    assert {p.name: p.uncertain for p in graph.parameters} == {"w": False, "gain": False}
    assert [row.name for row in graph.constants] == ["table"]


@pytest.mark.parametrize("text", ["{", "[1]", '{"stored": 3}', '{"stored": {"gone": [1]}}'])
def test_a_trace_that_cannot_be_read_says_nothing(text: str) -> None:
    model = _model(w=_draw(4, 8), gain=_draw(3, 8))
    mark(model, text, {})
    assert _known(model).learned == set()
    assert [row.name for row in build_graph(model).uncertain] == ["gain"]


@pytest.mark.parametrize(
    ("values", "folded", "made"),
    [
        (np.ones((15, 8)), "['val_9', 'view']", True),
        (np.zeros((15, 8)), "['val_9']", True),
        (np.ones((15, 8)), "['block.scale']", False),  # a parameter of torch, in another form
        (_draw(15, 8), "['val_9']", False),
    ],
)
def test_what_torch_folded_of_constants_is_none_of_its_parameters(values: np.ndarray, folded: str, made: bool) -> None:
    model = _model(w=_draw(4, 8), factor=values)
    model.graph.initializers["w"].metadata_props[_KIND] = "PARAMETER"
    model.graph.initializers["factor"].metadata_props[_FOLDED] = folded
    known = _known(model)
    assert known.learned == {"w"}
    assert ("factor" in known.made) is made


@pytest.mark.parametrize(
    ("folded", "made"),
    [
        ("['mul', 'norm.levels', 'val_9']", True),  # a buffer, and values on the way from it
        ("['offset', 'val_9']", True),
        ("['w']", False),  # a parameter, though its name has no dot
        ("['norm.levels', 'block.scale']", False),
        ("['norm.levels', 'block.gone']", False),  # nothing says what that is
        ("['arange', 'val_9', 'view']", True),  # values of the code: all parameters are listed, and none is among them
    ],
)
def test_torchs_list_says_of_what_kind_that_is_which_was_folded(folded: str, made: bool) -> None:
    model = _model(w=_draw(4, 8), factor=_draw(15, 8))
    model.graph.initializers["w"].metadata_props[_KIND] = "PARAMETER"
    model.graph.initializers["factor"].metadata_props[_FOLDED] = folded
    model.graph.metadata_props[_SIGNATURE] = """
# inputs
p_w: PARAMETER target='w'
p_block_scale: PARAMETER target='block.scale'
b_norm_levels: BUFFER target='norm.levels' persistent=False
c_offset: CONSTANT_TENSOR target='offset'
x: USER_INPUT

# outputs
mul: USER_OUTPUT
"""
    assert ("factor" in _known(model).made) is made


def test_matrices_that_a_second_run_of_the_folding_joined_are_learned() -> None:
    """Queries, keys and values in one (Olive's OnnxScriptFusion): onnxscript tells what the first run had made of them.

    What is multiplied element by element, as tables of angles are, stays a constant.
    """
    model = _model(w=_draw(4, 8), factor=_draw(3, 8))
    for name in ("w", "factor"):
        model.graph.initializers[name].metadata_props[_FOLDED] = "['val_59', 'val_67', 'val_75']"
    model.graph.metadata_props[_SIGNATURE] = "p_query: PARAMETER target='query.weight'"
    assert set(_known(model).made) == {"factor"}
    assert {parameter.name: parameter.role for parameter in build_graph(model).parameters} == {"w": Role.weight}


def test_what_torch_computed_of_buffers_alone_is_a_constant() -> None:
    """Levels of a quantiser, as FSQ (vector-quantize-pytorch) has them: torch 2.14.1 folds what is made of them."""
    torch = pytest.importorskip("torch")

    class Rounding(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = torch.nn.Linear(6, 4), torch.nn.Linear(4, 3)
            self.gain = torch.nn.Parameter(torch.rand(4))
            self.register_buffer("levels", torch.tensor([8.0, 5.0, 7.0, 6.0]), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            half = (self.levels - 1) * 1.001 / 2
            shift = torch.atanh(0.5 / half)
            return self.leave(torch.tanh(self.enter(x) + shift) * half * torch.exp(self.gain))

    torch.manual_seed(0)
    program = torch.onnx.export(Rounding().eval(), (torch.randn(5, 6),), dynamo=True, verbose=False)
    assert program is not None
    read = build_graph(program.model_proto)
    assert {p.name: p.size for p in read.parameters} == {
        "enter.weight": 24,
        "enter.bias": 4,
        "exp": 4,  # the parameter in another form
        "leave.weight": 12,
        "leave.bias": 3,
    }
    assert {row.reason for row in read.constants if row.shape == (4,)} == {"torch's exporter made it of constants"}
    assert read.uncertain == ()


@pytest.mark.parametrize("producer", ["pytorch", "acme"])
def test_constants_of_torchs_code_are_no_parameters(producer: str) -> None:
    """A shift that a layer norm lacks, statistics of a standardised weight, a table of positions."""
    code = {"shift": np.zeros(8), "gain": np.ones(8), "table": _draw(3, 8)}
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array.astype(np.float32)))
        for name, array in code.items()
    ]
    nodes += [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("LayerNormalization", ["a", "scale", "shift"], ["b"]),
        helper.make_node("BatchNormalization", ["b", "gain", "beta", "mean", "var"], ["c"]),
        helper.make_node("Add", ["c", "table"], ["y"]),
    ]
    stored = {"w": _draw(8, 8), "scale": _draw(8), "beta": _draw(3), "mean": _draw(3), "var": _draw(3)}
    graph = helper.make_graph(
        nodes,
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], producer_name=producer)
    read = build_graph(proto)
    learned = {p.name for p in read.parameters if p.role is not Role.statistic}
    if producer == "pytorch":
        assert learned == {"w", "scale", "beta"}
        assert {row.reason for row in read.constants if row.name in code} == {
            "a constant of the code: torch stores parameters as initializers"
        }
    else:  # others may store weights so
        assert learned >= {"w", "scale", "beta", *code}


@pytest.mark.parametrize("op", ["Loop", "Scan"])
@pytest.mark.parametrize("changes", [True, False])
def test_zeros_that_a_loop_begins_with_are_its_state(op: str, changes: bool) -> None:
    """As jax2onnx writes a scan; what the loop only hands on may be a bias."""
    value, node = helper.make_tensor_value_info, helper.make_node
    last = "s" if changes else "h"
    steps = [node("MatMul", ["h", "u"], ["a"]), node("Add", ["a", "h"], ["s"]), node("Identity", [last], ["next"])]
    states = [value("h", 1, [1, 6]), value("next", 1, [1, 6])]
    if op == "Loop":
        steps.append(node("Identity", ["go"], ["on"]))
        heads, tails = [value("i", 7, []), value("go", 9, [])], [value("on", 9, [])]
        body = helper.make_graph(steps, "b", [*heads, states[0]], [*tails, states[1]])
        loop = node("Loop", ["n", "", "row"], ["end"], body=body)
    else:
        steps.append(node("Identity", ["s"], ["each"]))
        body = helper.make_graph(steps, "b", [states[0], value("x0", 1, [1])], [states[1], value("each", 1, [1, 6])])
        loop = node("Scan", ["row", "x"], ["end", "all"], body=body, num_scan_inputs=1)
    nodes = [
        node("ConstantOfShape", ["width"], ["zeros"]),
        node("Unsqueeze", ["zeros", "axis"], ["row"]),
        loop,
        node("Add", ["end", "x"], ["y"]),
    ]
    tensors = {"u": _draw(6, 6).astype(np.float32), "width": np.array([6]), "axis": np.array([0]), "n": np.array(3)}
    graph = helper.make_graph(
        nodes,
        "m",
        [value("x", 1, [5, 1])],
        [value("y", 1, None)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = read_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    assert _known(model).zeros == ({"zeros"} if changes else set())
    if changes:
        assert [p.name for p in build_graph(model).parameters] == ["u"]


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_zeros_that_a_recurrent_operator_begins_with_are_its_state(value: float) -> None:
    """As Paddle writes them, beside weights that are Constant nodes as well."""
    tensors = {"w": _draw(1, 12, 5), "r": _draw(1, 12, 3), "h0": np.full((1, 2, 3), value), "c0": np.zeros((1, 2, 3))}
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array.astype(np.float32)))
        for name, array in tensors.items()
    ]
    nodes.append(helper.make_node("LSTM", ["x", "w", "r", "", "", "h0", "c0"], ["", "y"], hidden_size=3))
    graph = helper.make_graph(
        nodes,
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 2, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 3])],
    )
    model = read_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    assert _known(model).zeros == ({"h0", "c0"} if value == 0 else {"c0"})
    assert [p.name for p in build_graph(model).parameters] == (["w", "r"] if value == 0 else ["w", "r", "h0"])


@pytest.mark.parametrize("producer", ["jax2onnx", "acme"])
@pytest.mark.parametrize("stripped", [True, False])
def test_a_bias_that_a_layer_of_jax_is_without_is_no_parameter(producer: str, stripped: bool) -> None:
    shapes = {"w": (4, 8), "bias": (8,)}
    filled = list(shapes) if stripped else ["bias"]
    nodes = [helper.make_node("ConstantOfShape", [f"{name}_shape"], [name]) for name in filled]
    tensors = [numpy_helper.from_array(np.array(shapes[name], np.int64), f"{name}_shape") for name in filled]
    if not stripped:
        tensors.append(numpy_helper.from_array(_draw(4, 8).astype(np.float32), "w"))
    graph = helper.make_graph(
        [*nodes, helper.make_node("Gemm", ["x", "w", "bias"], ["y"])],
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], producer_name=producer)
    learned = {p.name for p in build_graph(proto).parameters}
    assert learned == ({"w"} if producer == "jax2onnx" and not stripped else {"w", "bias"})


@pytest.mark.parametrize("name", ["PaddlePaddle Graph in PIR mode", "acme"])
def test_a_norm_of_paddle_without_scale_and_shift_has_no_parameters(name: str) -> None:
    arrays = {
        "conv2d_0.w_0": _draw(8, 3, 3, 3),
        **{key: np.ones(8) for key in ("const.0", "batch_norm2d_0.w_2")},
        **{key: np.zeros(8) for key in ("const.1", "batch_norm2d_0.w_1")},
    }
    nodes = [
        helper.make_node("Constant", [], [key], value=numpy_helper.from_array(array.astype(np.float32)))
        for key, array in arrays.items()
    ]
    norm = ["a", "const.0", "const.1", "batch_norm2d_0.w_1", "batch_norm2d_0.w_2"]
    nodes += [
        helper.make_node("Conv", ["x", "conv2d_0.w_0"], ["a"]),
        helper.make_node("BatchNormalization", norm, ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    graph = helper.make_graph(nodes, name, [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    read = build_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    learned = {p.name for p in read.parameters if p.role is not Role.statistic}
    assert learned == {"conv2d_0.w_0"} | (set() if name.startswith("Paddle") else {"const.0", "const.1"})


@pytest.mark.parametrize(
    ("name", "constant", "is_slim"),
    [
        ("Model from PaddlePaddle.", "p2o.helper.constant.3", False),
        ("PaddlePaddle Graph in PIR mode", "helper.constant.3", True),
        ("paddle-onnx", "Constant_3", False),
        ("PaddlePaddle Graph in PIR mode", "auto.cast.4", True),
        ("", "p2o.helper.constant.3", True),  # a tool renamed the graph
        ("acme", "helper.constant.3", True),
    ],
)
def test_names_of_paddle_tell_numbers_that_are_learned(name: str, constant: str, is_slim: bool) -> None:
    """A learned scale and shift of one element behind a convolution, beside a number of the code."""
    arrays = {
        "conv2d_0.w_0": _draw(4, 3, 1, 1),
        "mobile_one_block_0.w_0": np.array([1.3]),
        "mobile_one_block_0.w_1": np.array([0.2]),
        constant: np.array(0.7),
    }
    tensors = [numpy_helper.from_array(array.astype(np.float32), key) for key, array in arrays.items()]
    nodes = [helper.make_node("Constant", [], [each.name], value=each) for each in tensors if not is_slim]
    nodes += [
        helper.make_node("Conv", ["x", "conv2d_0.w_0"], ["a"]),
        helper.make_node("Mul", ["a", "mobile_one_block_0.w_0"], ["b"]),
        helper.make_node("Add", ["b", "mobile_one_block_0.w_1"], ["c"]),
        helper.make_node("Mul", ["c", constant], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, name, [x], [y], tensors if is_slim else [])
    read = build_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    learned = {p.name for p in read.parameters}
    if name == "acme":
        assert learned == {"conv2d_0.w_0"}
        assert {row.name for row in read.uncertain} == arrays.keys() - learned
    else:
        assert learned == arrays.keys() - {constant}
        assert {row.name: row.reason for row in read.constants} == {
            constant: "a constant that paddle2onnx adds: parameters have names of layers"
        }


@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize("producer", ["pytorch", "onnx.quantize"])
def test_names_that_torch_gives_to_numbers_of_its_code_outlive_tools(producer: str, is_frozen: bool) -> None:
    """A tool made an initializer of a Constant node. Where a frozen module's weights are called so, nothing tells."""
    weight = "/layer/Constant_1_output_0" if is_frozen else "layer.weight"
    stored = {weight: _draw(4, 5), "/layer/Constant_output_0": _draw(5)}
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", weight], ["a"]), helper.make_node("Mul", ["a", [*stored][1]], ["y"])],
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name=producer)
    learned = {p.name for p in build_graph(model).parameters}
    assert learned == (set(stored) if is_frozen else {weight})


def test_kernels_that_a_tool_multiplied_are_no_constants_of_the_code() -> None:
    """onnxsim 0.8.1 multiplies a kernel by the 0.5 of the GELU before it, and stores that in a node named _v_446."""
    held = {"_v_446": _draw(4, 4, 3, 3), "onnx::Mul_12": _draw(1, 4, 1, 1)}
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array.astype(np.float32)))
        for name, array in held.items()
    ]
    nodes += [
        helper.make_node("Conv", ["x", "stem.weight"], ["a"]),
        helper.make_node("Mul", ["a", "onnx::Mul_12"], ["b"]),
        helper.make_node("Conv", ["b", "_v_446"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(_draw(4, 3, 3, 3).astype(np.float32), "stem.weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="pytorch")
    assert {p.name for p in build_graph(model).parameters} == {"stem.weight", "_v_446"}


def test_rows_of_a_table_that_a_tool_took_are_no_constant_of_the_code() -> None:
    """onnxsim 0.8.1 stores positions of a BERT of fixed length in a Constant node, called as the Gather's output.

    What it computes of attention to a single position, which is 1, is a constant.
    """
    table = "/bert/embeddings/position_embeddings/Gather_output_0"
    held = {table: _draw(1, 3, 4), "/bert/Constant_3_output_0": _draw(4), "/bert/Softmax_output_0": np.ones(4)}
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array.astype(np.float32)))
        for name, array in held.items()
    ]
    nodes += [
        helper.make_node("MatMul", ["x", "dense.weight"], ["a"]),
        helper.make_node("Add", ["a", table], ["b"]),
        helper.make_node("Mul", ["b", [*held][1]], ["c"]),
        helper.make_node("Mul", ["c", [*held][2]], ["d"]),
        helper.make_node("MatMul", ["d", "dense.weight"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(_draw(4, 4).astype(np.float32), "dense.weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="pytorch")
    assert {p.name: p.role for p in build_graph(model).parameters} == {
        "dense.weight": Role.weight,
        table: Role.position,
    }


@pytest.mark.parametrize("filled", [(), ("w1", "w2"), ("window",)])
@pytest.mark.parametrize("view", ["Transpose", "Identity"])
def test_a_table_that_outweighs_stripped_weights_makes_no_constants_of_them(filled: tuple[str, ...], view: str) -> None:
    """As jax2onnx writes haiku's biases, with a row for each place: `strip` takes tables of equal rows for computed."""
    shapes = {"w1": (4, 4), "table": (1, 30, 4), "w2": (4, 4), "window": (30, 30)}
    nodes = [helper.make_node("ConstantOfShape", [f"{name}_shape"], [name]) for name in filled]
    nodes += [
        helper.make_node(view, ["w1"], ["v"]),
        helper.make_node("MatMul", ["x", "v"], ["a"]),
        helper.make_node("Add", ["a", "table"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["c"]),
        helper.make_node("MatMul", ["window", "c"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(np.array(shapes[name], np.int64), f"{name}_shape") for name in filled]
    tensors += [
        numpy_helper.from_array(_draw(*shapes[name]).astype(np.float32), name)
        for name in sorted(shapes.keys() - set(filled))
    ]
    graph = helper.make_graph(
        nodes,
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 30, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 30, 4])],
        tensors,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], producer_name="jax2onnx")
    assert set(_known(read_model(proto)).made) == ({"window"} if filled == ("window",) else set())
