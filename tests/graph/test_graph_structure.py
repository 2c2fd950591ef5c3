"""What is matched by structure: activations, gates, attention, biases, tables, means, by each rule set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from graph_models import Net, decoded, drawn, edges, everywhere, kinds, parameters, roles, run

import onnx_ghn
from onnx_ghn.graph import build_graph
from onnx_ghn.onnx_io import stored_tensors

# -- activations leave no node -----------------------------------------------------------------------------


def gelu_erf(net: Net, x: str) -> str:
    inner = net.op("Add", net.op("Erf", net.op("Div", x, net.number(2**0.5))), net.number(1.0))
    return net.op("Mul", net.op("Mul", x, inner), net.number(0.5))


def gelu_tanh(net: Net, x: str) -> str:
    cube = net.op("Mul", net.op("Pow", x, net.number(3.0)), net.number(0.044715))
    inner = net.op("Tanh", net.op("Mul", net.op("Add", x, cube), net.number(0.7978845608)))
    return net.op("Mul", net.op("Mul", net.number(0.5), x), net.op("Add", net.number(1.0), inner))


def gelu_halved_first(net: Net, x: str) -> str:
    inner = net.op("Add", net.op("Erf", net.op("Mul", x, net.number(2**-0.5))), net.number(1.0))
    return net.op("Mul", net.op("Mul", x, net.number(0.5)), inner)


def silu(net: Net, x: str) -> str:
    return net.op("Mul", x, net.op("Sigmoid", x))


def quick_gelu(net: Net, x: str) -> str:
    return net.op("Mul", net.op("Sigmoid", net.op("Mul", x, net.number(1.702))), x)


def hard_swish(net: Net, x: str) -> str:
    clipped = net.op("Clip", net.op("Add", x, net.number(3.0)), net.number(0.0), net.number(6.0))
    return net.op("Div", net.op("Mul", x, clipped), net.number(6.0))


def hard_swish_operator(net: Net, x: str) -> str:
    return net.op("Mul", x, net.op("HardSigmoid", x, alpha=1 / 6))


def mish(net: Net, x: str) -> str:
    return net.op("Mul", x, net.op("Tanh", net.op("Softplus", x)))


@pytest.mark.parametrize(
    "activation",
    [gelu_erf, gelu_tanh, gelu_halved_first, silu, quick_gelu, hard_swish, hard_swish_operator, mish],
)
def test_an_activation_is_no_node(activation: Callable[[Net, str], str]) -> None:
    net = Net()
    x = net.op("Add", net.linear(net.input(3, 8), 8, 8, "w"), net.weight(8, name="b"))
    model = net.model(net.linear(activation(net, x), 8, 4, "head"))
    assert everywhere(model) == ["conv", "bias", "conv"]
    assert decoded(build_graph(model)) == {"w", "b", "head"}
    assert len(build_graph(model).parameters) == 3


# -- gates -------------------------------------------------------------------------------------------------


def squeeze_excite(activation: str, *, viewed: bool = False, linear: bool = False) -> onnx.ModelProto:
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 3, 8, "w")
    if linear:
        g = net.op("ReduceMean", x, axes=[2, 3], keepdims=0)
        g = net.linear(net.op("Relu", net.linear(g, 8, 2, "down")), 2, 8, "up")
    else:
        g = net.op("GlobalAveragePool", x)
        g = net.conv(net.op("Relu", net.conv(g, 8, 2, "down")), 2, 8, "up")
    if activation == "clip":
        g = net.op("Clip", net.op("Add", g, net.number(3.0)), net.number(0.0), net.number(6.0))
        g = net.op("Div", g, net.number(6.0))
    else:
        g = net.op(activation, g)
    if viewed or linear:
        g = net.op("Reshape", g, net.number([1, 8, 1, 1], np.int64))
    x = net.op("Mul", x, g)
    x = net.op("Flatten", net.op("GlobalAveragePool", net.conv(x, 8, 8, "next")))
    return net.model(net.op("Gemm", x, net.weight(8, 10, name="head"), net.weight(10, name="b")))


TAIL = ["conv", "glob_avg", "conv", "bias"]


@pytest.mark.parametrize(
    ("activation", "viewed", "gated"),
    [
        ("Sigmoid", False, {"ghn3", "onnx"}),
        ("Sigmoid", True, {"ghn3", "onnx"}),
        ("HardSigmoid", False, {"ghn3", "onnx"}),
        ("HardSigmoid", True, {"ppuda", "ghn3", "onnx"}),
        ("clip", False, {"ghn3", "onnx"}),
        ("clip", True, {"ppuda", "ghn3", "onnx"}),
        ("Tanh", False, {"onnx"}),
    ],
)
def test_squeeze_and_excitation(activation: str, viewed: bool, gated: set[str]) -> None:
    for rules, primitives in drawn(squeeze_excite(activation, viewed=viewed)).items():
        # PPUDA draws every mean; GHN-3 too, in a net without a sigmoid of any kind.
        squeeze = ["glob_avg"] if rules == "ppuda" or (rules == "ghn3" and activation == "Tanh") else []
        cse = ["cse"] if rules in gated else []
        assert primitives == ["conv", *squeeze, "conv", "conv", *cse, *TAIL], rules


def test_squeeze_and_excitation_through_linear_layers() -> None:
    found = drawn(squeeze_excite("Sigmoid", linear=True))
    assert found["onnx"] == ["conv", "conv", "conv", "cse", *TAIL]
    assert found["ghn3"] == ["conv", "conv", "conv", "cse", *TAIL]
    assert found["ppuda"] == ["conv", "conv", "conv", *TAIL]  # its means count with their dimensions kept only


def test_a_gated_linear_unit_is_no_squeeze() -> None:
    net = Net()
    x = net.input(3, 8)
    gate = net.op("Sigmoid", net.linear(x, 8, 8, "gate"))
    model = net.model(net.linear(net.op("Mul", gate, net.linear(x, 8, 8, "value")), 8, 4, "head"))
    assert kinds(build_graph(model, "onnx")) == ["conv"] * 3
    assert kinds(build_graph(model, "ppuda")) == ["conv"] * 3


# -- attention ---------------------------------------------------------------------------------------------


def attention(*, scale: str = "scores", einsum: bool = False, mask: str = "", axes: bool = True) -> onnx.ModelProto:
    """One head; `scale`: what is divided by √d: scores, query, both (as torch writes its fused attention)."""
    net = Net()
    x = net.input(1, 4, 8)
    q, k, v = (net.linear(x, 8, 8, name) for name in "qkv")
    if scale in ("query", "both"):
        q = net.op("Mul", q, net.number(8**-0.25))
    if not einsum:
        k = net.op("Transpose", k, perm=[0, 2, 1])
    if scale == "both":
        k = net.op("Mul", k, net.number(8**-0.25))
    scores = net.op("Einsum", q, k, equation="bqd,bkd->bqk") if einsum else net.op("MatMul", q, k)
    if scale == "scores":
        scores = net.op("Div", scores, net.number(8**0.5))
    if mask == "where":
        net.input(1, 4, 4, name="mask", kind=onnx.TensorProto.BOOL)
        scores = net.op("Where", "mask", scores, net.number(-np.inf))
    elif mask == "add":
        causal = np.triu(np.full((1, 4, 4), -np.inf, np.float32), 1)
        scores = net.op("Add", scores, net.weight(name="causal", array=causal))
    elif mask == "input":
        net.input(1, 1, 4, name="mask", kind=7)
        inverted = net.op("Sub", net.number(1.0), net.op("Cast", "mask", to=1))
        scores = net.op("Add", scores, net.op("Mul", inverted, net.number(-1e9)))
    weights = net.op("Softmax", scores, axis=-1)
    y = net.op("Einsum", weights, v, equation="bqk,bkd->bqd") if einsum else net.op("MatMul", weights, v)
    return net.model(net.linear(y, 8, 8, "out"))


@pytest.mark.parametrize("einsum", [False, True])
@pytest.mark.parametrize("scale", ["scores", "query"])
@pytest.mark.parametrize("mask", ["", "where", "add", "input"])
def test_attention_is_the_weighted_sum(einsum: bool, scale: str, mask: str) -> None:
    model = attention(scale=scale, einsum=einsum, mask=mask)
    assert everywhere(model) == ["conv", "conv", "conv", "msa", "conv"]
    graph = build_graph(model)
    assert {p.name for p in graph.parameters} == {"q", "k", "v", "out"}
    assert edges(graph) == {
        ("input0", "conv1"), ("input0", "conv2"), ("input0", "conv3"),
        ("conv1", "msa4"), ("conv2", "msa4"), ("conv3", "msa4"), ("msa4", "conv5"),
    }  # fmt: skip


def test_attention_that_torch_fuses_is_msa_in_our_rules_alone() -> None:
    found = drawn(attention(scale="both"))
    assert found["onnx"] == ["conv", "conv", "conv", "msa", "conv"]
    # Without the node, the three meet in the next one.
    assert found["ppuda"] == found["ghn3"] == ["conv"] * 4


def test_a_product_of_data_without_softmax_is_no_node() -> None:
    net = Net()
    x = net.input(1, 4, 8)
    left = net.linear(x, 8, 4, "left")
    right = net.linear(x, 8, 8, "right")
    model = net.model(net.linear(net.op("MatMul", left, right), 8, 2, "out"))
    assert everywhere(model) == ["conv"] * 3


# -- sums, concatenations, biases, tables ------------------------------------------------------------------


def test_a_bias_added_after_a_convolution() -> None:
    net = Net()
    x = net.op("Add", net.conv(net.input(1, 3, 8, 8), 3, 4, "w"), net.weight(1, 4, 1, 1, name="b"))
    model = net.model(x)
    assert everywhere(model) == ["conv", "bias"]
    found = parameters(build_graph(model))["b"]
    assert (found.role.value, found.layout.canonical) == ("bias", (4,))


def test_sum_and_concat_only_where_two_nodes_meet() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 3, 4, "w")
    twice = net.op("Add", x, net.op("Relu", x))  # both stem from one node
    joined = net.op("Concat", twice, net.op("Sigmoid", twice), axis=1)
    other = net.conv(x, 4, 8, "other")
    summed = net.op("Add", joined, other)
    y = net.op("Concat", summed, joined, other, axis=1)
    model = net.model(net.op("Add", y, net.number(1.0)))
    assert everywhere(model) == ["conv", "conv", "sum", "concat"]
    assert edges(build_graph(model)) == {
        ("input0", "conv1"), ("conv1", "conv2"), ("conv1", "sum3"), ("conv2", "sum3"),
        ("sum3", "concat4"), ("conv1", "concat4"), ("conv2", "concat4"),
    }  # fmt: skip


def test_a_position_table_is_a_node_that_nothing_feeds() -> None:
    net = Net()
    x = net.op("Add", net.linear(net.input(1, 4, 8), 8, 8, "w"), net.weight(1, 4, 8, name="table"))
    model = net.model(net.linear(x, 8, 8, "next"))
    assert everywhere(model) == ["conv", "pos_enc", "sum", "conv"]
    graph = build_graph(model)
    assert edges(graph) == {("input0", "conv1"), ("conv1", "sum3"), ("pos_enc2", "sum3"), ("sum3", "conv4")}
    assert roles(model)["table"] == "position"
    assert decoded(graph) == {"w", "table", "next"}


def test_a_class_token_has_a_reason() -> None:
    net = Net()
    x = net.linear(net.input(1, 4, 8), 8, 8, "w")
    token = net.op("Expand", net.weight(1, 1, 8, name="token"), net.number([1, 1, 8], np.int64))
    x = net.op("Concat", token, x, axis=1)
    model = net.model(net.linear(x, 8, 8, "next"))
    assert everywhere(model) == ["conv", "conv"]
    assert "token" in parameters(build_graph(model))["token"].reason


def test_a_bias_of_attention_scores_has_a_reason() -> None:
    net = Net()
    x = net.input(1, 4, 8)
    q, k, v = (net.linear(x, 8, 8, name) for name in "qkv")
    scores = net.op(
        "Add", net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 1])), net.weight(1, 4, 4, name="relative")
    )
    model = net.model(net.op("MatMul", net.op("Softmax", scores, axis=-1), v))
    assert everywhere(model) == ["conv", "conv", "conv", "msa"]
    assert "scores" in parameters(build_graph(model))["relative"].reason


def test_token_ids_feed_embeddings() -> None:
    net = Net()
    ids = net.input(1, 4, name="ids", kind=7)
    words = net.op("Gather", net.weight(30, 8, name="words"), ids)
    places = net.op("Gather", net.weight(16, 8, name="places"), net.number([[0, 1, 2, 3]], np.int64))
    x = net.op("Add", words, places)
    model = net.model(net.linear(x, 8, 30, "head"))
    run(model, ids=np.zeros((1, 4), np.int64))
    graph = build_graph(model)
    assert everywhere(model)[0] == "pos_enc"
    assert kinds(graph)[-2:] == ["sum", "conv"]
    assert graph.nodes[0].primitive.name == "input"
    assert ("input0", "pos_enc1") in edges(graph)
    assert parameters(graph)["words"].role.value == "embedding"
    assert {"words", "head"} <= decoded(graph)
    assert {"words", "places", "head"} == {p.name for p in graph.parameters}


# -- means and pooling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_before_the_classifier(keepdims: int) -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 3, 4, "w")
    x = net.op("ReduceMean", x, axes=[2, 3], keepdims=keepdims)
    model = net.model(net.op("Gemm", net.op("Flatten", x), net.weight(4, 10, name="head")))
    found = drawn(model)
    assert found["onnx"] == found["ghn3"] == ["conv", "glob_avg", "conv"]
    assert found["ppuda"] == (["conv", "glob_avg", "conv"] if keepdims else ["conv", "conv"])


def test_average_pooling_over_single_pixels_is_a_global_mean() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 3, 4, "w")
    x = net.op("AveragePool", x, kernel_shape=[1, 1], strides=[1, 1])
    x = net.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("MaxPool", x, kernel_shape=[3, 2])
    model = net.model(x)
    assert everywhere(model) == ["conv", "glob_avg", "avg_pool", "max_pool"]
    assert [node.shape for node in build_graph(model).nodes[2:]] == [None, (1, 1, 2, 2), (1, 1, 3, 2)]


def test_a_mean_after_a_convolutional_classifier_is_drawn_before_it() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 3, 4, "w")
    y = net.op("Conv", x, net.weight(10, 4, 1, 1, name="head"), net.weight(10, name="b"))
    model = net.model(net.op("Flatten", net.op("GlobalAveragePool", net.op("Relu", y))))
    found = drawn(model)
    assert found["ppuda"] == ["conv", "conv", "bias", "glob_avg"]
    assert found["ghn3"] == found["onnx"] == ["conv", "glob_avg", "conv", "bias"]
    graph = build_graph(model)
    assert graph.head == (3, 4)
    assert edges(graph) == {("input0", "conv1"), ("conv1", "glob_avg2"), ("glob_avg2", "conv3"), ("conv3", "bias4")}


def test_grouped_and_dilated_convolutions() -> None:
    net = Net()
    x = net.input(1, 4, 9, 9)
    x = net.op("Conv", x, net.weight(4, 1, 3, 3, name="depthwise"), group=4)
    x = net.op("Conv", x, net.weight(4, 1, 3, 3, name="dilated"), group=4, dilations=[2, 2])
    x = net.op("Conv", x, net.weight(4, 4, 3, 3, name="plain"), dilations=[1, 1])
    assert everywhere(net.model(x)) == ["sep_conv", "dil_conv", "conv"]


# -- more spellings ----------------------------------------------------------------------------------------


def test_softmax_written_as_arithmetic() -> None:
    net = Net()
    x = net.input(1, 4, 8)
    q, k, v = (net.linear(x, 8, 8, name) for name in "qkv")
    scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 1]))
    scores = net.op("Sub", scores, net.op("ReduceMax", scores, axes=[-1]))
    powers = net.op("Exp", scores)
    weights = net.op("Div", powers, net.op("ReduceSum", powers, net.number([-1], np.int64)))
    model = net.model(net.op("MatMul", weights, v))
    run(model, x=net.array(1, 4, 8))
    assert everywhere(model) == ["conv", "conv", "conv", "msa"]


def test_group_norm_as_torch_writes_it() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 8, "w")
    grouped = net.op("Reshape", x, net.number([0, 2, -1], np.int64))
    ones = net.weight(name="ones", array=np.ones(2, np.float32))
    zeros = net.weight(name="zeros", array=np.zeros(2, np.float32))
    normal = net.op("InstanceNormalization", grouped, ones, zeros)
    back = net.op("Reshape", normal, net.op("Shape", x))
    scaled = net.op("Mul", back, net.weight(8, 1, 1, name="gamma"))
    model = net.model(net.op("Add", scaled, net.weight(8, 1, 1, name="beta")))
    run(model, x=net.array(1, 3, 4, 4))
    assert everywhere(model) == ["conv", "ln"]
    assert decoded(build_graph(model)) == {"w", "gamma", "beta"}
    assert build_graph(model).nodes[2].shape == (8,)


def test_instance_norm_of_its_own() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 8, "w")
    model = net.model(net.op("InstanceNormalization", x, net.weight(8, name="gamma"), net.weight(8, name="beta")))
    assert everywhere(model) == ["conv", "ln"]
    assert decoded(build_graph(model)) == {"w", "gamma", "beta"}


def test_a_hard_sigmoid_of_min_and_max_is_hard() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 3, 8, "w")
    g = net.conv(net.op("GlobalAveragePool", x), 8, 8, "gate")
    g = net.op("Max", net.op("Add", g, net.number(3.0)), net.number(0.0))
    g = net.op("Div", net.op("Min", g, net.number(6.0)), net.number(6.0))
    g = net.op("Reshape", g, net.number([1, 8, 1, 1], np.int64))
    found = drawn(net.model(net.conv(net.op("Mul", x, g), 8, 8, "next")))
    assert found["ppuda"] == ["conv", "glob_avg", "conv", "cse", "conv"]
    assert found["ghn3"] == found["onnx"] == ["conv", "conv", "cse", "conv"]


def test_a_number_in_the_arithmetic_of_a_weight_is_none_of_its_scales() -> None:
    """Paddle's 1-D convolutions: 0 is added to the kernel. Taken for a scale it got 1, and so did each weight."""
    net = Net()
    kernel = net.op("Unsqueeze", net.weight(8, 4, 3), net.number([2], np.int64))
    zero = net.weight(name="zero", array=np.zeros(1, np.float32))
    model = net.model(net.op("Conv", net.input(None, 4, 1, 9), net.op("Add", kernel, zero)))
    assert roles(model) == {"w": "weight"}
    stored = stored_tensors(onnx_ghn.predict(model, policy="all").model)
    np.testing.assert_array_equal(stored["zero"].numpy(), [0])


def test_weight_standardisation_and_weight_norm_keep_one_weight() -> None:
    net = Net()
    w = net.weight(8, 4, 3, 3)
    centred = net.op("Sub", w, net.op("ReduceMean", w, axes=[1, 2, 3]))
    variance = net.op("ReduceMean", net.op("Mul", centred, centred), axes=[1, 2, 3])
    standard = net.op("Div", centred, net.op("Sqrt", net.op("Add", variance, net.number(1e-5))))
    standard = net.op("Mul", standard, net.weight(8, 1, 1, 1, name="gain"))
    x = net.op("Conv", net.input(1, 4, 8, 8), standard)
    v = net.weight(16, 8, 1, 1, name="v")
    norm = net.op("ReduceL2", v, axes=[1, 2, 3])
    weight = net.op("Mul", v, net.op("Div", net.weight(16, 1, 1, 1, name="g"), norm))
    model = net.model(net.op("Conv", x, weight))
    run(model, x=net.array(1, 4, 8, 8))
    assert everywhere(model) == ["conv", "conv"]
    assert roles(model) == {"w": "weight", "gain": "norm_scale", "v": "weight", "g": "norm_scale"}
    assert decoded(build_graph(model)) == {"w", "v"}
    assert [node.shape for node in build_graph(model).nodes[1:]] == [(8, 4, 3, 3), (16, 8, 1, 1)]


def test_attention_scores_that_meet_other_data_are_a_sum() -> None:
    """A position bias that the net computes is data."""
    net = Net()
    x = net.input(1, 4, 8)
    q, k, v = (net.linear(x, 8, 8, name) for name in "qkv")
    scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 1]))
    scores = net.op("Add", scores, net.linear(x, 8, 4, "bias_of_x"))
    model = net.model(net.op("MatMul", net.op("Softmax", scores, axis=-1), v))
    assert everywhere(model) == ["conv"] * 4 + ["sum", "msa"]
