"""Normalisation that is matched by structure: layer, group and batch norms written as arithmetic, by each rule set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from graph_models import Net, decoded, edges, everywhere, roles, run

from onnx_ghn.graph import Role, build_graph

# -- normalisation written as arithmetic -------------------------------------------------------------------


def mean(net: Net, x: str) -> str:
    return net.op("ReduceMean", x, axes=[-1], keepdims=1)


def affine(net: Net, x: str) -> str:
    return net.op("Add", net.op("Mul", x, net.weight(8, name="gamma")), net.weight(8, name="beta"))


def eps(net: Net, variance: str) -> str:
    return net.op("Add", variance, net.number(1e-5))


def pow_sqrt_div(net: Net, x: str) -> str:
    c = net.op("Sub", x, mean(net, x))
    return affine(net, net.op("Div", c, net.op("Sqrt", eps(net, mean(net, net.op("Pow", c, net.number(2.0)))))))


def two_subs(net: Net, x: str) -> str:
    """The deviation computed twice, the square as a product."""
    mu = mean(net, x)
    c = net.op("Sub", x, mu)
    d = net.op("Sub", x, mu)
    return affine(net, net.op("Div", d, net.op("Sqrt", eps(net, mean(net, net.op("Mul", c, c))))))


def one_pass(net: Net, x: str) -> str:
    """E[x²] − μ², guarded against negative values (Flax)."""
    mu = mean(net, x)
    squares = mean(net, net.op("Mul", x, x))
    variance = net.op("Max", net.op("Sub", squares, net.op("Mul", mu, mu)), net.number(0.0))
    factor = net.op("Mul", net.op("Reciprocal", net.op("Sqrt", eps(net, variance))), net.weight(8, name="gamma"))
    return net.op("Add", net.op("Mul", net.op("Sub", x, mu), factor), net.weight(8, name="beta"))


def reciprocal(net: Net, x: str) -> str:
    c = net.op("Sub", x, mean(net, x))
    root = net.op("Sqrt", eps(net, mean(net, net.op("Mul", c, c))))
    return affine(net, net.op("Mul", c, net.op("Reciprocal", root)))


def power(net: Net, x: str) -> str:
    c = net.op("Sub", x, mean(net, x))
    variance = eps(net, mean(net, net.op("Mul", c, c)))
    return affine(net, net.op("Mul", c, net.op("Pow", variance, net.number(-0.5))))


def folded(net: Net, x: str) -> str:
    """x·(γ/σ) + (β − μ·γ/σ) (TensorFlow)."""
    mu = mean(net, x)
    c = net.op("Sub", x, mu)
    root = net.op("Sqrt", eps(net, mean(net, net.op("Mul", c, c))))
    factor = net.op("Mul", net.op("Reciprocal", root), net.weight(8, name="gamma"))
    shift = net.op("Sub", net.weight(8, name="beta"), net.op("Mul", mu, factor))
    return net.op("Add", net.op("Mul", x, factor), shift)


def scale_before(net: Net, x: str) -> str:
    """γ is the first operand."""
    c = net.op("Sub", x, mean(net, x))
    n = net.op("Div", c, net.op("Sqrt", eps(net, mean(net, net.op("Mul", c, c)))))
    return net.op("Add", net.weight(8, name="beta"), net.op("Mul", net.weight(8, name="gamma"), n))


def half(net: Net, x: str) -> str:
    """Statistics in float32, the rest in float16."""
    x = net.op("Cast", net.op("Cast", x, to=10), to=1)
    c = net.op("Sub", x, mean(net, x))
    n = net.op("Div", c, net.op("Sqrt", eps(net, mean(net, net.op("Pow", c, net.number(2.0))))))
    return affine(net, net.op("Cast", net.op("Cast", n, to=10), to=1))


def as_shaped(net: Net, x: str, value: str) -> str:
    """Of the shape that a value is found to have at run time (jax2onnx, with a free batch)."""
    return net.op("Expand", value, net.op("Shape", value))


def guarded(net: Net, x: str) -> str:
    """Sums over the number of channels, spread by a computed shape, and NaN where there would be no sample (JAX)."""
    count = net.op("Sub", net.number(8.0), net.op("Cast", net.number(0, np.int32), to=1))
    total = net.op("ReduceSum", x, net.number([1], np.int64), keepdims=1)
    c = net.op("Sub", x, net.op("Div", as_shaped(net, x, total), net.number(8.0)))
    squares = net.op("ReduceSumSquare", c, axes=[1], keepdims=1)
    variance = net.op("Div", as_shaped(net, x, squares), count)
    nan = net.op("Expand", net.number(np.nan), net.op("Shape", variance))
    variance = net.op("Where", net.op("Greater", count, net.number(0.0)), variance, nan)
    inverse = net.op("Div", net.number(1.0), net.op("Sqrt", eps(net, variance)))
    factor = net.op("Mul", inverse, net.weight(8, name="gamma"))
    shift = net.op("Add", net.op("Mul", net.op("Neg", mean(net, x)), factor), net.weight(8, name="beta"))
    return net.op("Add", net.op("Mul", x, factor), shift)


def rounded(net: Net, x: str) -> str:
    """As a static quantiser leaves it: every value is rounded, by pairs of QuantizeLinear and DequantizeLinear."""

    def pair(value: str, step: float) -> str:
        scale, zero = net.number(step), net.number(0, np.int8)
        return net.op("DequantizeLinear", net.op("QuantizeLinear", value, scale, zero), scale, zero)

    x = pair(x, 0.1)
    c = pair(net.op("Sub", x, pair(mean(net, x), 0.05)), 0.1)
    variance = pair(mean(net, pair(net.op("Mul", c, c), 1.0)), 0.2)
    n = pair(net.op("Div", c, pair(net.op("Sqrt", eps(net, variance)), 0.05)), 0.03)
    return net.op("Add", pair(net.op("Mul", n, net.weight(8, name="gamma")), 0.05), net.weight(8, name="beta"))


SPELLINGS: tuple[Callable[[Net, str], str], ...] = (
    pow_sqrt_div,
    two_subs,
    one_pass,
    reciprocal,
    power,
    folded,
    scale_before,
    half,
    guarded,
    rounded,
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_layer_norm_written_as_arithmetic(spelling: Callable[[Net, str], str]) -> None:
    net = Net()
    x = net.linear(net.input(4, 8), 8, 8, "before")
    y = spelling(net, x)
    model = net.model(net.op("Add", net.linear(y, 8, 8, "after"), x), y)

    # The test's spelling is a layer norm.
    fed = net.array(4, 8)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in net.tensors}
    h = fed @ values["before"]
    n = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)
    tolerance = {half: 3e-2, rounded: 0.3}.get(spelling, 1e-4)
    np.testing.assert_allclose(
        run(model, x=fed)[1], n * values["gamma"] + values["beta"], rtol=tolerance, atol=tolerance
    )

    assert everywhere(model) == ["conv", "ln", "conv", "sum"]
    graph = build_graph(model)
    assert decoded(graph) == {"before", "gamma", "beta", "after"}
    assert roles(model) == {"before": "weight", "gamma": "norm_scale", "beta": "norm_bias", "after": "weight"}
    assert edges(graph) == {
        ("input0", "conv1"), ("conv1", "ln2"), ("ln2", "conv3"), ("conv3", "sum4"), ("conv1", "sum4")
    }  # fmt: skip
    assert graph.nodes[2].shape == (8,)


@pytest.mark.parametrize("bounds", [(2, 3), (-1, 2**31 - 1)])
def test_layer_norm_whose_scale_takes_its_shape_from_the_data(bounds: tuple[int, int]) -> None:
    """As older versions of paddle2onnx write it, where sizes are free."""
    net = Net()
    x = net.linear(net.input("N", "length", 6), 6, 8, "w")
    centred = net.op("Sub", x, net.op("ReduceMean", x, axes=[-1]))
    squares = net.op("ReduceMean", net.op("Pow", centred, net.number(2.0)), axes=[-1])
    scaled = net.op("Div", centred, net.op("Sqrt", net.op("Add", squares, net.number(1e-5))))
    places = [net.number([bound], np.int64) for bound in (*bounds, 0)]
    size = net.op("Slice", net.op("Shape", x), *places)
    scale = net.op("Reshape", net.weight(8, name="scale"), size)
    shift = net.op("Reshape", net.weight(8, name="shift"), size)
    graph = build_graph(net.model(net.op("Add", net.op("Mul", scaled, scale), shift)))
    assert {p.name: p.role for p in graph.parameters} == {
        "w": Role.weight,
        "scale": Role.norm_scale,
        "shift": Role.norm_bias,
    }
    assert not [row.name for row in graph.uncertain if row.size > 1]  # but for the exponent and epsilon


def test_layer_norm_of_tokens_whose_means_are_global_pools() -> None:
    """As tf2onnx 1.17.0 writes the layer norms of Keras: a mean over the last of three axes is a global pool to it."""
    net = Net()
    x = net.linear(net.input(2, 5, 8), 8, 8, "before")
    mu = net.op("GlobalAveragePool", x)
    c = net.op("Sub", x, mu)
    root = net.op("Sqrt", eps(net, net.op("GlobalAveragePool", net.op("Mul", c, c))))
    factor = net.op("Mul", net.op("Reciprocal", root), net.weight(8, name="gamma"))
    y = net.op("Add", net.op("Mul", x, factor), net.op("Sub", net.weight(8, name="beta"), net.op("Mul", mu, factor)))
    model = net.model(net.linear(y, 8, 8, "after"))
    assert everywhere(model) == ["conv", "ln", "conv"]
    assert roles(model) == {"before": "weight", "gamma": "norm_scale", "beta": "norm_bias", "after": "weight"}
    assert decoded(build_graph(model)) == {"before", "gamma", "beta", "after"}


def test_layer_norm_as_a_batch_norm_of_computed_statistics() -> None:
    """As tf2onnx 1.17.0 writes layer norms of Keras 2 whose epsilon is 0.001: each token is a channel of one image."""
    net = Net()
    x = net.linear(net.input(2, 5, 8), 8, 8, "before")
    image = net.op("Reshape", x, net.number([1, -1, 8, 1], np.int64))
    mu = net.op("ReduceMean", image, axes=[0, 2, 3], keepdims=1)
    c = net.op("Sub", image, mu)
    flat = [
        net.op("Reshape", value, net.number([-1], np.int64))
        for value in (mu, net.op("ReduceMean", net.op("Mul", c, c), axes=[0, 2, 3], keepdims=1))
    ]
    count = net.op("Shape", flat[0])
    ones = [net.op("Expand", net.number(value), count) for value in (1.0, 0.0)]
    normal = net.op("Reshape", net.op("BatchNormalization", image, *ones, *flat, epsilon=1e-3), net.op("Shape", x))
    y = affine(net, normal)
    model = net.model(net.linear(y, 8, 8, "after"), y)

    fed = net.array(2, 5, 8)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in net.tensors}
    h = fed @ values["before"]
    n = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(run(model, x=fed)[1], n * values["gamma"] + values["beta"], rtol=1e-4, atol=1e-4)
    assert everywhere(model) == ["conv", "ln", "conv"]
    assert roles(model) == {"before": "weight", "gamma": "norm_scale", "beta": "norm_bias", "after": "weight"}
    assert decoded(build_graph(model)) == {"before", "gamma", "beta", "after"}
    assert not [row.name for row in build_graph(model).uncertain if row.size > 1]


def test_rms_norm_written_as_arithmetic() -> None:
    net = Net()
    x = net.linear(net.input(4, 8), 8, 8, "before")
    root = net.op("Sqrt", eps(net, mean(net, net.op("Pow", x, net.number(2.0)))))
    y = net.op("Mul", net.weight(8, name="gamma"), net.op("Mul", x, net.op("Reciprocal", root)))
    model = net.model(net.linear(y, 8, 8, "after"))
    assert everywhere(model) == ["conv", "ln", "conv"]
    assert roles(model)["gamma"] == "norm_scale"
    assert build_graph(model).nodes[2].shift is None


def test_norm_without_parameters_is_no_node() -> None:
    net = Net()
    x = net.linear(net.input(4, 8), 8, 8, "before")
    c = net.op("Sub", x, mean(net, x))
    y = net.op("Div", c, net.op("Sqrt", eps(net, mean(net, net.op("Mul", c, c)))))
    assert everywhere(net.model(net.linear(y, 8, 8, "after"))) == ["conv", "conv"]


def test_two_norms_in_a_row_are_two_nodes() -> None:
    net = Net()
    x = pow_sqrt_div(net, net.input(4, 8))
    for t in net.tensors:
        if t.name in ("gamma", "beta"):
            t.name += "_1"
    for node in net.nodes:
        node.input[:] = [f"{name}_1" if name in ("gamma", "beta") else name for name in node.input]
    model = net.model(one_pass(net, x))
    assert everywhere(model) == ["ln", "ln"]
    assert decoded(build_graph(model)) == {"gamma", "beta", "gamma_1", "beta_1"}


def test_a_norm_whose_output_is_viewed_in_two_ways() -> None:
    """Flax: the result is flattened for a Gemm, and its shape taken for the way back."""
    net = Net()
    x = net.linear(net.input(2, 3, 8), 8, 8, "before")
    y = one_pass(net, x)
    rows = net.op("Reshape", y, net.number([-1, 8], np.int64))
    back = net.op("Reshape", net.op("Gemm", rows, net.weight(8, 8, name="head")), net.op("Shape", y))
    model = net.model(net.op("Add", back, net.op("Transpose", net.op("Transpose", y, perm=[1, 0, 2]), perm=[1, 0, 2])))
    run(model, x=net.array(2, 3, 8))
    assert everywhere(model) == ["conv", "ln", "conv", "sum"]
    assert edges(build_graph(model)) == {
        ("input0", "conv1"), ("conv1", "ln2"), ("ln2", "conv3"), ("ln2", "sum4"), ("conv3", "sum4")
    }  # fmt: skip


def test_a_norm_that_ends_the_model_behind_a_view() -> None:
    net = Net()
    x = pow_sqrt_div(net, net.linear(net.input(2, 3, 8), 8, 8, "before"))
    model = net.model(
        net.op("Reshape", x, net.number([-1, 8], np.int64)), net.op("Unsqueeze", x, net.number([0], np.int64))
    )
    assert everywhere(model) == ["conv", "ln"]


# -- batch normalisation as arithmetic ---------------------------------------------------------------------


def test_batch_norm_folded_into_mul_and_add() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 3, 4, "w")
    x = net.op("Mul", x, net.weight(1, 4, 1, 1, name="scale"))
    x = net.op("Relu", net.op("Add", x, net.weight(1, 4, 1, 1, name="shift")))
    model = net.model(x)
    assert everywhere(model) == ["conv", "bn"]
    assert roles(model) == {"w": "weight", "scale": "norm_scale", "shift": "norm_bias"}
    graph = build_graph(model)
    assert graph.nodes[2].shape == (4,)
    assert {p.layout.canonical for p in graph.parameters[1:]} == {(4,)}


@pytest.mark.parametrize("spelling", ["mul", "div", "computed"])
def test_batch_norm_for_inference_with_its_statistics(spelling: str) -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 3, 4, "w")
    x = net.op("Sub", x, net.weight(1, 4, 1, 1, name="mean"))
    variance = net.weight(name="var", array=np.abs(net.array(1, 4, 1, 1)) + 1)
    root = net.op("Sqrt", net.op("Add", variance, net.number(1e-3)))
    scale = net.weight(1, 4, 1, 1, name="scale")
    if spelling == "mul":
        x = net.op("Mul", net.op("Mul", x, net.op("Reciprocal", root)), scale)
    elif spelling == "div":
        x = net.op("Mul", net.op("Div", x, root), scale)
    else:
        x = net.op("Mul", x, net.op("Div", scale, root))
    model = net.model(net.op("Relu", net.op("Add", x, net.weight(1, 4, 1, 1, name="shift"))))
    run(model, x=net.array(1, 3, 8, 8))
    assert roles(model) == {
        "w": "weight", "mean": "statistic", "var": "statistic", "scale": "norm_scale", "shift": "norm_bias"
    }  # fmt: skip
    assert everywhere(model) == ["conv", "bn"]
    assert decoded(build_graph(model)) == {"w", "scale", "shift"}


def test_the_mean_of_a_batch_norm_whose_variance_is_in_its_scale() -> None:
    """(x − μ)·s + β, as torch's first exporter writes Keras's batch norms: μ grows and is stripped with the others."""
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 3, 4, "w")
    x = net.op("Mul", net.op("Sub", x, net.weight(1, 4, 1, 1, name="mean")), net.weight(1, 4, 1, 1, name="scale"))
    model = net.model(net.op("Relu", net.op("Add", x, net.weight(1, 4, 1, 1, name="shift"))))
    assert roles(model) == {"w": "weight", "mean": "statistic", "scale": "norm_scale", "shift": "norm_bias"}
    assert everywhere(model) == ["conv", "bn"]


def test_numbers_that_bring_inputs_to_one_scale_are_no_mean_of_a_batch_norm() -> None:
    net = Net()
    x = net.op("Sub", net.input(1, 3, 8, 8), net.weight(1, 3, 1, 1, name="mean"))
    model = net.model(net.conv(net.op("Mul", x, net.weight(1, 3, 1, 1, name="by")), 3, 4, "w"))
    assert roles(model) == {"w": "weight"}


def test_batch_norm_with_the_mean_in_its_shift() -> None:
    """x·(γ/σ) + (β − μ·γ/σ), all of it constants."""
    net = Net()
    x = net.conv(net.input(1, 3, 8, 8), 3, 4, "w")
    variance = net.weight(name="var", array=np.abs(net.array(1, 4, 1, 1)) + 1)
    inverse = net.op("Reciprocal", net.op("Sqrt", net.op("Add", variance, net.number(1e-3))))
    factor = net.op("Mul", inverse, net.weight(1, 4, 1, 1, name="scale"))
    shift = net.op(
        "Sub", net.weight(1, 4, 1, 1, name="shift"), net.op("Mul", net.weight(1, 4, 1, 1, name="mean"), factor)
    )
    model = net.model(net.op("Add", net.op("Mul", x, factor), shift))
    assert everywhere(model) == ["conv", "bn"]
    assert roles(model) == {
        "w": "weight", "mean": "statistic", "var": "statistic", "scale": "norm_scale", "shift": "norm_bias"
    }  # fmt: skip


def test_layer_scale_is_decoded_by_the_bias_before_it() -> None:
    net = Net()
    x = net.input(1, 4, 8)
    h = net.op("Add", net.linear(x, 8, 8, "w"), net.weight(8, name="b"))
    h = net.op("Mul", h, net.weight(8, name="gamma"))
    model = net.model(net.op("Add", net.op("Relu", h), x))
    graph = build_graph(model)
    assert everywhere(model) == ["conv", "bias", "sum"]
    bias = graph.nodes[2]
    assert [graph.parameters[i].name for i in (bias.scale, bias.shift)] == ["gamma", "b"]
    assert roles(model)["gamma"] == "norm_scale"


# -- biases with a number for each head and each channel in it ---------------------------------------------------


@pytest.mark.parametrize("product", ["Einsum", "MatMul"])
def test_a_bias_of_heads_is_no_table_of_positions(product: str) -> None:
    """Keras and Flax add (heads, width) to what a weight gives in two axes."""
    net = Net()
    x = net.linear(net.input(2, 5, 8), 8, 8, "before")
    if product == "Einsum":
        y = net.op("Einsum", x, net.weight(8, 2, 3, name="w"), equation="abc,cde->abde")
    else:
        y = net.op("Reshape", net.linear(x, 8, 6, "w"), net.number([2, 5, 2, 3], np.int64))
    y = net.op("Relu", net.op("Add", y, net.weight(2, 3, name="b")))
    model = net.model(net.linear(net.op("Reshape", y, net.number([2, 5, 6], np.int64)), 6, 4, "after"))
    run(model, x=net.array(2, 5, 8))
    assert everywhere(model) == ["conv", "conv", "bias", "conv"]
    assert roles(model)["b"] == "bias"


def test_a_bias_of_heads_that_lie_ahead_of_tokens_is_no_table_of_positions() -> None:
    net = Net()
    y = net.op("Reshape", net.linear(net.input(2, 5, 8), 8, 6, "w"), net.number([2, 5, 2, 3], np.int64))
    y = net.op("Add", net.op("Transpose", y, perm=[0, 2, 1, 3]), net.weight(2, 1, 3, name="b"))
    y = net.op("Reshape", net.op("Transpose", net.op("Relu", y), perm=[0, 2, 1, 3]), net.number([2, 5, 6], np.int64))
    assert roles(net.model(net.linear(y, 6, 4, "after")))["b"] == "bias"


def test_a_table_of_as_many_pixels_as_a_product_has_outputs_is_no_bias() -> None:
    """Four tokens of four features, seen as a map of 2 × 2 pixels: what is added to each pixel is of its place."""
    net = Net()
    y = net.op("Transpose", net.linear(net.input(2, 4, 8), 8, 4, "w"), perm=[0, 2, 1])
    y = net.op("Reshape", y, net.number([2, 4, 2, 2], np.int64))
    y = net.op("Relu", net.op("Add", y, net.weight(1, 1, 2, 2, name="positions")))
    model = net.model(net.linear(net.op("Flatten", net.op("GlobalAveragePool", y)), 4, 4, "after"))
    run(model, x=net.array(2, 4, 8))
    assert roles(model)["positions"] == "position"


def test_a_table_of_positions_behind_a_product_stays_one() -> None:
    net = Net()
    x = net.op("Add", net.linear(net.input(2, 5, 8), 8, 6, "w"), net.weight(5, 6, name="positions"))
    model = net.model(net.linear(net.op("Relu", x), 6, 4, "after"))
    assert roles(model)["positions"] == "position"
