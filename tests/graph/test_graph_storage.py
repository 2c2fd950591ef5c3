"""Parameters in every form that exporters store them in, and behind everything that stands before an operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from graph_models import MS, F, Net, decoded, edges, kinds, parameters, run
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.errors import GraphError, OnnxGhnError
from onnx_ghn.graph import Role, build_graph
from onnx_ghn.graph.primitives import handler_table

NEWEST = min(onnx.defs.onnx_opset_version(), 26)


def tensor(name: str, array: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(array, name)


# -- quantised, split, shared ------------------------------------------------------------------------------


@pytest.mark.parametrize("per_channel", [False, True])
def test_int8_weight_behind_dequantize_linear(per_channel: bool) -> None:
    net = Net()
    weight = net.weight(array=net.rng.integers(-128, 127, (5, 7), dtype=np.int8))
    n = 7 if per_channel else None
    scale = net.weight(name="scale", array=np.full(n, 0.1, np.float32) if n else np.float32(0.1))
    zero = net.weight(name="zero", array=np.zeros(n, np.int8) if n else np.int8(0))
    y = net.op("MatMul", net.input(3, 5), net.op("DequantizeLinear", weight, scale, zero, axis=1))
    graph = build_graph(net.model(y))
    assert kinds(graph) == ["conv"]
    found = parameters(graph)["w"]
    assert found.dtype == "int8"
    assert found.layout.canonical == (7, 5)
    assert (found.scale_name, found.zero_point_name, found.quantization_axis) == ("scale", "zero", 1)
    assert decoded(graph) == {"w"}
    assert "scale" not in parameters(graph)


def test_pieces_of_one_tensor() -> None:
    net = Net()
    x = net.input(3, 5)
    pieces = net.op("Split", net.weight(5, 9), net.number([3, 3, 3], np.int64), n=3, axis=1)
    graph = build_graph(net.model(*(net.op("MatMul", x, piece) for piece in pieces)))
    assert kinds(graph) == ["conv"] * 3
    assert [node.weight for node in graph.nodes] == [None, 0, None, None]
    assert len(graph.parameters) == 1


def test_a_tensor_that_several_nodes_read_is_decoded_once_by_the_first() -> None:
    net = Net()
    w = net.weight(5, 5)
    y = net.op("MatMul", net.op("Relu", net.op("MatMul", net.input(3, 5), w)), w)
    graph = build_graph(net.model(y))
    assert kinds(graph) == ["conv", "conv"]
    assert [node.weight for node in graph.nodes] == [None, 0, None]
    assert graph.nodes[2].shape == (5, 5)


# -- kinds of storage --------------------------------------------------------------------------------------


def test_every_kind_of_storage() -> None:
    net = Net()
    x = net.op("MatMul", net.input(3, 5), net.weight(5, 5, name="initial"))
    x = net.op("MatMul", x, net.constant(net.array(5, 5)))
    filled = net.op("ConstantOfShape", net.number([5, 5], np.int64), value=helper.make_tensor("v", F, [1], [0.5]))
    x = net.op("MatMul", x, filled)
    floats = net.op("Constant", value_floats=[0.5, 0.25, 0.1, 0.2, 0.3])
    graph = build_graph(net.model(net.op("Add", x, floats)))
    assert kinds(graph) == ["conv", "conv", "conv", "bias"]
    assert [p.storage for p in graph.parameters] == ["initializer", "constant", "constant_of_shape", "constant"]
    assert len(decoded(graph)) == 4


def test_initializers_that_are_graph_inputs() -> None:
    net = Net(opset=8, ir_version=3)
    y = net.op("MatMul", net.input(3, 5), net.weight(5, 7))
    net.input(5, 7, name="w")
    graph = build_graph(net.model(y))
    assert kinds(graph) == ["conv"]
    assert parameters(graph)["w"].storage == "input_default"


def test_a_function_called_twice_shares_its_tensors_and_not_its_arguments() -> None:
    net = Net()
    body = [
        helper.make_node("Constant", [], ["inner"], value=tensor("value", net.array(5, 5))),
        helper.make_node("MatMul", ["a", "inner"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["b"]),
    ]
    net.functions.append(helper.make_function("my", "Block", ["a", "w"], ["b"], body, [helper.make_opsetid("", 17)]))
    x = net.op("Block", net.input(3, 5), net.weight(5, 5, name="one"), domain="my")
    y = net.op("Block", x, net.weight(5, 5, name="two"), domain="my")
    model = net.model(y)
    graph = build_graph(model)
    assert kinds(graph) == ["conv"] * 4
    assert {p.name.split("/")[-1] for p in graph.parameters} == {"inner", "one", "two"}
    assert [p.storage for p in graph.parameters].count("function") == 1
    assert [node.weight is None for node in graph.nodes] == [True, False, False, True, False]
    assert len(graph.edges) == 4


def test_a_function_whose_attribute_comes_from_its_call() -> None:
    net = Net()
    node = helper.make_node("Conv", ["a", "w"], ["b"])
    reference = onnx.AttributeProto(name="group", type=onnx.AttributeProto.INT, ref_attr_name="g")
    node.attribute.append(reference)
    net.functions.append(
        helper.make_function("my", "C", ["a", "w"], ["b"], [node], [helper.make_opsetid("", 17)], attributes=["g"])
    )
    x = net.input(1, 4, 5, 5)
    y = net.op("C", x, net.weight(4, 1, 3, 3), domain="my", g=4)
    assert kinds(build_graph(net.model(y))) == ["sep_conv"]


def branch(name: str, source: str, weight: np.ndarray) -> onnx.GraphProto:
    nodes = [helper.make_node("MatMul", [source, f"{name}_w"], [f"{name}_y"])]
    out = [helper.make_tensor_value_info(f"{name}_y", F, None)]
    return helper.make_graph(nodes, name, [], out, [tensor(f"{name}_w", weight)])


def test_both_branches_of_if() -> None:
    net = Net()
    x = net.linear(net.input(3, 5), 5, 5, "outer")
    net.input(name="flag", kind=TensorProto.BOOL)
    y = net.op(
        "If", "flag", then_branch=branch("then", x, net.array(5, 5)), else_branch=branch("other", x, net.array(5, 5))
    )
    y = net.linear(y, 5, 2, "head")
    graph = build_graph(net.model(y))
    assert kinds(graph) == ["conv"] * 4
    assert {p.name for p in graph.parameters} == {"outer", "then_w", "other_w", "head"}
    assert edges(graph) == {
        ("input0", "conv1"),
        ("conv1", "conv2"),
        ("conv1", "conv3"),
        ("conv2", "conv4"),
        ("conv3", "conv4"),
    }
    assert {p.storage for p in graph.parameters} == {"initializer", "subgraph"}


def loop_model() -> onnx.ModelProto:
    net = Net()
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "w"], ["h"]),
            helper.make_node("Relu", ["h"], ["next"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", 7, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", F, [3, 5]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", F, [3, 5]),
        ],
        [tensor("w", net.array(5, 5))],
    )
    y = net.op("Loop", net.number(3, np.int64), "", net.input(3, 5), body=body)
    return net.model(net.linear(y, 5, 2, "head"))


def scan_model() -> onnx.ModelProto:
    net = Net()
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["item", "w"], ["h"]),
            helper.make_node("MatMul", ["state", "r"], ["s"]),
            helper.make_node("Add", ["h", "s"], ["next"]),
            helper.make_node("Identity", ["next"], ["out"]),
        ],
        "body",
        [helper.make_tensor_value_info("state", F, [1, 5]), helper.make_tensor_value_info("item", F, [1, 5])],
        [helper.make_tensor_value_info("next", F, [1, 5]), helper.make_tensor_value_info("out", F, [1, 5])],
        [tensor("w", net.array(5, 5)), tensor("r", net.array(5, 5))],
    )
    start = net.input(1, 5, name="start")
    _, y = net.op("Scan", start, net.input(4, 1, 5), n=2, body=body, num_scan_inputs=1)
    return net.model(y)


def test_the_body_of_a_loop() -> None:
    model = loop_model()
    run(model, x=np.ones((3, 5), np.float32))  # the test's model is a valid one
    graph = build_graph(model)
    assert kinds(graph) == ["conv", "conv"]
    assert decoded(graph) == {"w", "head"}
    assert edges(graph) == {("input0", "conv1"), ("conv1", "conv2")}


def test_the_body_of_a_scan() -> None:
    model = scan_model()
    run(model, x=np.ones((4, 1, 5), np.float32), start=np.ones((1, 5), np.float32))
    graph = build_graph(model)
    assert kinds(graph) == ["conv", "conv", "sum"]
    assert decoded(graph) == {"w", "r"}


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_a_state_whose_start_is_stored_is_data(value: float) -> None:
    """As tf2onnx 1.17.0 writes an LSTM of TensorFlow Lite: what multiplies the state is a weight."""
    model = scan_model()
    (start,) = [given for given in model.graph.input if given.name == "start"]
    model.graph.input.remove(start)
    model.graph.initializer.append(tensor("start", np.full((1, 5), value, np.float32)))
    run(model, x=np.ones((4, 1, 5), np.float32))
    graph = build_graph(model)
    assert decoded(graph) == {"w", "r"}
    assert {p.name: p.role for p in graph.parameters if p.name in ("w", "r")} == {"w": Role.weight, "r": Role.weight}
    assert [(row.name, row.reason) for row in graph.uncertain] == [
        ("start", "no primitive stands for what a body of Loop, Scan or If makes of it")
    ]


def test_functions_that_call_each_other_without_end() -> None:
    net = Net()
    for name, other in (("A", "B"), ("B", "A")):
        body = [helper.make_node(other, ["a"], ["b"], domain="my")]
        opsets = [helper.make_opsetid("my", 1)]
        net.functions.append(helper.make_function("my", name, ["a"], ["b"], body, opsets))
    with pytest.raises(OnnxGhnError):
        build_graph(net.model(net.op("A", net.input(3, 5), domain="my")))


# -- types, shapes, opsets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(np.float16, "float16"), (np.float32, "float32"), (np.float64, "float64"), (ml_dtypes.bfloat16, "bfloat16")],
)
def test_float_types(dtype: Any, name: str) -> None:
    net = Net()
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weight = helper.make_tensor("w", kind, (5, 7), net.array(5, 7).astype(dtype).tobytes(), raw=True)
    net.tensors.append(weight)
    y = net.op("MatMul", net.input(3, 5, kind=kind), "w")
    graph = build_graph(net.model(y, kind=kind))
    assert kinds(graph) == ["conv"]
    assert parameters(graph)["w"].dtype == name
    assert edges(graph) == {("input0", "conv1")}


def test_dynamic_shapes_and_shape_arithmetic_leave_no_trace() -> None:
    net = Net()
    x = net.conv(net.input("batch", 3, "h", "w"), 3, 8, "first", kernel=3)
    shape = net.op("Shape", x)
    batch = net.op("Unsqueeze", net.op("Gather", shape, net.number(0, np.int64)), net.number([0], np.int64))
    target = net.op("Concat", batch, net.number([8, -1], np.int64), axis=0)
    x = net.op("Transpose", net.op("Reshape", x, target), perm=[0, 2, 1])
    model = net.model(net.linear(x, 8, 4, "second"))
    assert run(model, x=np.ones((2, 3, 4, 4), np.float32))[0].shape == (2, 16, 4)
    graph = build_graph(model)
    assert kinds(graph) == ["conv", "conv"]
    assert {p.name for p in graph.parameters} == {"first", "second"}


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 18, 21, NEWEST])
def test_one_network_in_every_opset(opset: int) -> None:
    """Convolution, BatchNorm, pooling, a mean whose axes are an attribute or an input, a linear head."""
    net = Net(opset=opset, ir_version=3 if opset < 9 else 8)
    x = net.conv(net.input(1, 3, 8, 8), 3, 4, "w", kernel=3)
    statistics = [net.weight(4, name=n, array=np.ones(4, np.float32)) for n in ("scale", "shift", "mean", "var")]
    x = net.op("Relu", net.op("BatchNormalization", x, *statistics))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    axes = {"axes": [2, 3]} if opset < 18 else {}
    x = net.op("ReduceMean", x, *([] if axes else [net.number([2, 3], np.int64)]), keepdims=0, **axes)
    y = net.op("Gemm", x, net.weight(4, 10, name="head"), net.weight(10, name="bias"))
    if net.ir_version < 4:
        for t in net.tensors:
            net.inputs.append(helper.make_tensor_value_info(t.name, t.data_type, t.dims))
    model = net.model(y)
    graph = build_graph(model)
    assert kinds(graph) == ["conv", "bn", "max_pool", "glob_avg", "conv", "bias"]
    assert parameters(graph)["mean"].role is Role.statistic
    assert decoded(graph) == {"w", "scale", "shift", "head", "bias"}
    if opset <= 21:
        assert run(model, x=net.array(1, 3, 8, 8))[0].shape == (1, 10)


def test_files_models_and_ir_models_give_one_graph(tmp_path: Path) -> None:
    import onnx_ir as ir

    model = loop_model()
    onnx.save(model, tmp_path / "m.onnx")
    graphs = [build_graph(tmp_path / "m.onnx"), build_graph(str(tmp_path / "m.onnx")), build_graph(model)]
    graphs.append(build_graph(ir.from_proto(model)))
    assert len({(tuple(kinds(g)), g.edges.tobytes(), g.parameters) for g in graphs}) == 1


# -- com.microsoft and strangers ---------------------------------------------------------------------------


def test_fused_conv() -> None:
    net = Net()
    x = net.input(1, 4, 8, 8)
    inputs = [net.weight(8, 2, 3, 3), net.weight(8, name="b")]
    y = net.op("FusedConv", x, *inputs, domain=MS, group=2, activation="Relu")
    graph = build_graph(net.model(y))
    assert kinds(graph) == ["sep_conv", "bias"]
    assert decoded(graph) == {"w", "b"}


def test_skip_layer_normalization() -> None:
    net = Net()
    x = net.input(1, 3, 8)
    h = net.linear(x, 8, 8, "w")
    inputs = [net.weight(8, name=n) for n in ("gamma", "beta", "bias")]
    y = net.op("SkipLayerNormalization", x, h, *inputs, domain=MS)
    graph = build_graph(net.model(y))
    assert kinds(graph) == ["conv", "sum", "bias", "ln"]
    assert [parameters(graph)[n].role.value for n in ("gamma", "beta", "bias")] == ["norm_scale", "norm_bias", "bias"]
    assert edges(graph) >= {("input0", "sum2"), ("conv1", "sum2"), ("sum2", "bias3"), ("bias3", "ln4")}


def test_bias_gelu() -> None:
    net = Net()
    y = net.op("BiasGelu", net.linear(net.input(3, 5), 5, 8, "w"), net.weight(8, name="b"), domain=MS)
    graph = build_graph(net.model(y))
    assert kinds(graph) == ["conv", "bias"]
    assert decoded(graph) == {"w", "b"}


def test_contrib_attention_and_embedding() -> None:
    net = Net()
    ids = net.input(1, 4, name="ids", kind=TensorProto.INT32)
    tables = [net.weight(n, 8, name=name) for name, n in (("word", 30), ("place", 16), ("kind", 2))]
    norm = [net.weight(8, name="gamma"), net.weight(8, name="beta")]
    x, _ = net.op("EmbedLayerNormalization", ids, ids, *tables, *norm, n=2, domain=MS)
    y = net.op("Attention", x, net.weight(8, 24), net.weight(24, name="b"), domain=MS, num_heads=2)
    model = net.model(y)
    run(model, ids=np.zeros((1, 4), np.int32))
    graph = build_graph(model)
    assert kinds(graph) == ["pos_enc"] * 3 + ["sum", "ln", "conv", "bias", "msa"]
    assert parameters(graph)["w"].layout.canonical == (24, 8)
    assert parameters(graph)["word"].role is Role.embedding
    assert decoded(graph) == {"word", "place", "kind", "gamma", "beta", "w", "b"}


def test_multi_head_attention() -> None:
    net = Net()
    x = net.input(1, 4, 8)
    parts = [net.linear(x, 8, 8, name) for name in "qkv"]
    y = net.op("MultiHeadAttention", *parts, net.weight(24, name="b"), domain=MS, num_heads=2)
    graph = build_graph(net.model(net.linear(y, 8, 8, "out")))
    assert kinds(graph) == ["conv"] * 3 + ["bias", "msa", "conv"]
    assert decoded(graph) == {"q", "k", "v", "b", "out"}


def test_a_stranger_stops_nothing() -> None:
    net = Net()
    x = net.linear(net.input(3, 5), 5, 5, "before")
    x = net.op("Mystery", x, net.weight(5, 5, name="secret"), domain="com.strange")
    graph = build_graph(net.model(net.linear(x, 5, 5, "after")))
    assert kinds(graph) == ["conv", "conv"]
    assert edges(graph) == {("input0", "conv1"), ("conv1", "conv2")}
    assert "com.strange::Mystery" in parameters(graph)["secret"].reason
    assert decoded(graph) == {"before", "after"}


def test_every_parameter_is_decoded_or_has_a_reason() -> None:
    net = Net()
    x = net.linear(net.input(3, 5), 5, 5, "w")
    x = net.op("PRelu", x, net.weight(5, name="slopes"))
    dead = net.linear(x, 5, 5, "dead")
    net.op("Relu", dead)
    graph = build_graph(net.model(net.linear(x, 5, 5, "head")))
    assert "no path" in parameters(graph)["dead"].reason
    assert "PRelu" in parameters(graph)["slopes"].reason
    for parameter in graph.parameters:
        assert bool(parameter.reason) == (parameter.name not in decoded(graph))


def test_a_second_handler_for_one_operator_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_ghn.graph import primitives

    monkeypatch.setattr(primitives, "_TABLE", (*primitives._TABLE, primitives._TABLE[0]))
    with pytest.raises(ValueError, match="two handlers"):
        handler_table()


def test_a_value_that_nothing_produces() -> None:
    net = Net()
    model = net.model(net.op("MatMul", "nowhere", net.weight(5, 5)))
    with pytest.raises((GraphError, OnnxGhnError)):
        build_graph(model)
