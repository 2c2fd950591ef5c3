"""The gathered edge projection against the dense one, padding against none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ghn_samples import SMALL, GraphMaker
from torch import Tensor
from torch.nn import functional as F

from onnx_ghn.errors import GraphError
from onnx_ghn.ghn import GHNConfig, graphormer, memory, network, new_ghn
from onnx_ghn.ghn.graphormer import Graphormer

HID, HEADS = 16, 4


def _dense_edge_bias(attention: torch.nn.Module, distances: Tensor) -> Tensor:
    """Every pair of nodes embedded and projected for itself, as published."""
    pairs = torch.stack((distances, distances.transpose(1, 2)), dim=-1) + 2  # (B, N, N, 2)
    embedded = attention.edge_embed.embed(pairs).flatten(-2)  # (B, N, N, 2C)
    return attention.proj_e(embedded).permute(0, 3, 1, 2)


def _literal(stack: Graphormer, x: Tensor, distances: Tensor) -> Tensor:
    """The published layers for one graph, with attention spelled out."""
    one_hop = (distances == 1).long()
    first = stack[0]
    x = x + first.centrality_embed_in.weight[one_hop.sum(1)]
    x = x + first.centrality_embed_out.weight[one_hop.sum(2)]
    x = x + first.input_dist_embed.weight[distances[:, 0]]
    bias = _dense_edge_bias(first.attn, distances)
    b, n, c = x.shape
    for layer in stack:
        q, k, v = layer.attn.to_qkv(layer.ln1(x)).chunk(3, dim=-1)
        heads = [t.view(b, n, HEADS, c // HEADS).transpose(1, 2) for t in (q, k, v)]
        scores = (heads[0] @ heads[1].transpose(2, 3)) * (c // HEADS) ** -0.5 + bias
        mixed = (scores.softmax(-1) @ heads[2]).transpose(1, 2).reshape(b, n, c)
        x = x + layer.attn.to_out(mixed)
        inner = F.gelu(F.linear(layer.ln2(x), layer.ff.net[0].weight, layer.ff.net[0].bias))
        x = x + F.linear(inner, layer.ff.net[3].weight, layer.ff.net[3].bias)
    return x


def test_gathered_edge_bias_equals_dense(make_graph: GraphMaker) -> None:
    torch.manual_seed(0)
    attention = Graphormer(HID, HEADS, 1)[0].attn
    distances = torch.from_numpy(np.stack([make_graph(seed, 30, 0.1).distances(50) for seed in range(3)]))
    torch.testing.assert_close(attention.edge_bias(distances), _dense_edge_bias(attention, distances))


def test_layers_equal_the_literal_ones(make_graph: GraphMaker) -> None:
    torch.manual_seed(1)
    stack = Graphormer(HID, HEADS, 3)
    distances = torch.from_numpy(make_graph(5, 30, 0.1).distances(50))[None]
    x = torch.randn(1, 30, HID)
    torch.testing.assert_close(stack(x, distances), _literal(stack, x, distances), rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing(make_graph: GraphMaker) -> None:
    torch.manual_seed(2)
    stack = Graphormer(HID, HEADS, 2)
    graphs = make_graph(0, 12, 0.1), make_graph(1, 20, 0.1)
    small, large = (torch.from_numpy(graph.distances(50)) for graph in graphs)
    x = torch.randn(2, 20, HID)
    distances = torch.stack((F.pad(small, (0, 8, 0, 8)), large))
    mask = torch.arange(20) < torch.tensor([[12], [20]])
    together = stack(x, distances, mask)
    torch.testing.assert_close(together[:1, :12], stack(x[:1, :12], small[None]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[1:], stack(x[1:], large[None]), rtol=1e-4, atol=1e-5)


def test_many_neighbours_share_the_last_embedding() -> None:
    stack = Graphormer(HID, HEADS, 1)
    distances = torch.zeros(1, 131, 131, dtype=torch.long)
    distances[:, 0, 1:] = 1  # 130 outgoing edges, more than the table has rows
    assert stack(torch.zeros(1, 131, HID), distances).isfinite().all()


@torch.no_grad()
def test_attention_by_rows_gives_what_the_whole_gives(make_graph: GraphMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of large graphs the bias is made some rows at a time, here three or eleven."""
    torch.manual_seed(0)
    stack = Graphormer(HID, HEADS, 3).eval()
    graph = make_graph(3, n_nodes=40)
    distances = torch.from_numpy(graph.distances()).long()[None]
    x = torch.randn(1, len(graph), HID)
    whole = stack(x, distances)
    monkeypatch.setattr(graphormer, "LARGE", 10)
    for rows in (1, 3, 11):
        monkeypatch.setattr(graphormer, "_BIAS_SIZE", rows * len(graph) * HEADS)
        for dtype in (torch.int64, torch.int16):
            torch.testing.assert_close(stack(x, distances.to(dtype)), whole, rtol=1e-5, atol=1e-5)


def test_a_large_graph_is_embedded_as_a_small_one_is(make_graph: GraphMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    ghn = new_ghn(GHNConfig.preset("ghn3", **{**SMALL, "hid": HID, "heads": HEADS})).eval()
    graph = make_graph(4, n_nodes=60)
    blocks = ghn.blocks(graph)
    monkeypatch.setattr(graphormer, "LARGE", 10)
    monkeypatch.setattr(network, "LARGE", 10)
    large = ghn.blocks(graph)
    assert blocks.keys() == large.keys()
    for number, block in blocks.items():
        np.testing.assert_allclose(large[number].values, block.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
     torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")],
)  # fmt: skip
def test_want_of_memory_is_told(make_graph: GraphMaker, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    ghn = new_ghn(GHNConfig.preset("ghn3", **{**SMALL, "hid": HID, "heads": HEADS})).eval()
    graph = make_graph(0)

    def breaks(*_: object) -> None:
        raise error

    monkeypatch.setattr(Graphormer, "forward", breaks)
    with pytest.raises(GraphError, match=r"a graph of 30 nodes needs more memory than there is"):
        ghn.blocks(graph)
    error = RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else"):
        ghn.blocks(graph)
    monkeypatch.undo()
    monkeypatch.setattr(memory, "memory_bytes", lambda: 1000)
    with pytest.raises(GraphError, match="has 30 nodes, whose attention needs"):
        ghn.blocks(graph)
