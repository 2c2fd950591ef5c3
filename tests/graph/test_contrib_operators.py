"""Operators of onnxruntime that are several of ONNX in one."""

from __future__ import annotations

from graph_models import MS, Net, edges, kinds, parameters

from onnx_ghn.graph import build_graph


def test_skip_group_norm() -> None:
    """As onnxruntime's optimizer writes the sums of a diffusion model's U-Net and the group norms behind them."""
    net = Net()
    x = net.input(1, 8, 8, 3)
    h = net.op("NhwcConv", x, net.weight(8, 3, 3, 3), domain=MS)
    more = net.op("NhwcConv", x, net.weight(8, 3, 3, 3, name="v"), domain=MS)
    gamma, beta, bias = (net.weight(8, name=n) for n in ("gamma", "beta", "bias"))
    y = net.op("SkipGroupNorm", h, gamma, beta, more, bias, domain=MS, groups=4)
    graph = build_graph(net.model(y))
    assert kinds(graph) == ["conv", "conv", "sum", "bias", "ln"]
    assert [parameters(graph)[n].role.value for n in ("gamma", "beta", "bias")] == ["norm_scale", "norm_bias", "bias"]
    assert edges(graph) >= {("conv1", "sum3"), ("conv2", "sum3"), ("sum3", "bias4"), ("bias4", "ln5")}


def test_layers_with_what_follows_them_in_one_operator() -> None:
    net = Net()
    x = net.input(4, 8)
    h = net.op("GemmFastGelu", x, net.weight(8, 12), net.weight(12, name="b"), domain=MS)
    given = [net.weight(12, 36, name="qkv"), net.weight(36, name="qkv_b"), net.input(1, 4, name="o", kind=6)]
    y = net.op("PackedAttention", h, *given, net.input(2, name="lengths", kind=6), domain=MS, num_heads=2)
    graph = build_graph(net.model(y))
    assert kinds(graph) == ["conv", "bias", "conv", "bias", "msa"]
    assert parameters(graph)["w"].layout.canonical == (12, 8)
    assert parameters(graph)["qkv"].layout.canonical == (36, 12)
