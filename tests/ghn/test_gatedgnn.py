"""Level by level against node by node, as the paper has it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ghn_samples import GraphMaker
from torch import Tensor

from onnx_ghn.errors import GraphError
from onnx_ghn.ghn import levels
from onnx_ghn.ghn.gatedgnn import GatedGNN
from onnx_ghn.ghn.sweeps import sweep_of
from onnx_ghn.ghn.threads import one_thread
from onnx_ghn.graph import ComputationGraph, Node, Primitive

HID = 8


def _distances(graph: ComputationGraph, cutoff: int) -> npt.NDArray[np.int64]:
    """Shortest-path lengths by powers of the adjacency matrix: independent of the library's."""
    n = len(graph)
    adjacency = np.zeros((n, n), dtype=bool)
    adjacency[tuple(graph.edges.T)] = True
    lengths, reach = np.zeros((n, n), dtype=np.int64), np.eye(n, dtype=bool)
    for step in range(1, min(cutoff, n) + 1):
        reach = reach.astype(int) @ adjacency.astype(int) > 0
        lengths[reach & (lengths == 0)] = step
    return lengths


def _node_by_node(gnn: GatedGNN, x: Tensor, lengths: npt.NDArray[np.int64]) -> Tensor:
    """Eq. 3 and 4 read literally: visit nodes in topological order, then in reverse."""
    states = list(x)
    n = len(states)
    for order, of_node in ((range(n), lengths.T), (range(n - 1, -1, -1), lengths)):
        for node in order:
            message = torch.zeros(1, x.shape[1])
            for other in range(n):
                distance = int(of_node[node, other])
                if distance == 1:
                    message = message + gnn.mlp(states[other][None])
                if distance >= 1 and gnn.ve:
                    message = message + gnn.mlp_ve(states[other][None]) / distance
            states[node] = gnn.gru(message, states[node][None])[0]
    return torch.stack(states)


def _level_by_level(gnn: GatedGNN, x: Tensor, graphs: list[ComputationGraph], cutoff: int) -> Tensor:
    lengths = [graph.distances(cutoff) for graph in graphs]
    cpu = torch.device("cpu")
    forward, backward = (sweep_of(graphs, lengths, backward=b, virtual=gnn.ve, device=cpu) for b in (False, True))
    out: Tensor = gnn(x, (forward, backward))
    return out


@pytest.mark.parametrize("ve", [False, True])
@pytest.mark.parametrize("cutoff", [3, 50])
def test_equals_node_by_node(make_graph: GraphMaker, ve: bool, cutoff: int) -> None:
    torch.manual_seed(0)
    cutoff = cutoff if ve else 1
    gnn = GatedGNN(HID, ve)
    graphs = [make_graph(seed, n, density) for seed, n, density in ((0, 25, 0.1), (1, 40, 0.03), (2, 9, 0.5))]
    graphs.append(make_graph(3, 12, 0.1, chain=False))
    x = torch.randn(sum(map(len, graphs)), HID)
    sizes = [len(graph) for graph in graphs]
    expected = [
        _node_by_node(gnn, part, _distances(graph, cutoff)) for part, graph in zip(x.split(sizes), graphs, strict=True)
    ]
    with torch.no_grad():
        torch.testing.assert_close(_level_by_level(gnn, x, graphs, cutoff), torch.cat(expected), rtol=1e-5, atol=1e-6)
        for part, graph, one in zip(x.split(sizes), graphs, expected, strict=True):
            torch.testing.assert_close(_level_by_level(gnn, part, [graph], cutoff), one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ve", [False, True])
@pytest.mark.parametrize("n_graphs", [1, 3])
def test_gradients_equal_autograds(make_graph: GraphMaker, ve: bool, n_graphs: int) -> None:
    torch.manual_seed(1)
    cutoff = 4 if ve else 1
    gnn = GatedGNN(HID, ve)
    graphs = [make_graph(seed, 10 + 3 * seed, 0.15) for seed in range(n_graphs)]
    sizes = [len(graph) for graph in graphs]
    x = torch.randn(sum(sizes), HID, requires_grad=True)
    weigh = torch.randn(sum(sizes), HID)
    variables = [x, *gnn.parameters()]
    parts = zip(x.split(sizes), graphs, strict=True)
    literal = torch.cat([_node_by_node(gnn, part, _distances(g, cutoff)) for part, g in parts])
    expected = torch.autograd.grad((literal * weigh).sum(), variables)
    found = torch.autograd.grad((_level_by_level(gnn, x, graphs, cutoff) * weigh).sum(), variables)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_single_node_is_updated_without_message() -> None:
    torch.manual_seed(2)
    gnn = GatedGNN(HID, ve=True)
    graph = ComputationGraph((Node(Primitive.input),), np.zeros((0, 2), dtype=np.int64))
    x = torch.randn(1, HID)
    expected = gnn.gru(torch.zeros(1, HID), gnn.gru(torch.zeros(1, HID), x))
    torch.testing.assert_close(_level_by_level(gnn, x, [graph], 50), expected)


def test_thread_count_is_restored() -> None:
    before = torch.get_num_threads()
    with one_thread(torch.device("cpu")), one_thread(torch.device("cpu")):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("virtual", [False, True])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("size", [1, 500, 3000])
def test_bands_give_what_the_whole_gives(
    make_graph: GraphMaker, monkeypatch: pytest.MonkeyPatch, virtual: bool, backward: bool, size: int
) -> None:
    """However few levels are worked out at once, the plan is the same to the bit."""
    graphs = [make_graph(seed, n_nodes=n) for seed, n in ((0, 30), (1, 7), (2, 55))]
    distances = [graph.distances(9) for graph in graphs]
    device = torch.device("cpu")
    whole = sweep_of(graphs, distances, backward=backward, virtual=virtual, device=device)
    monkeypatch.setattr(levels, "_BAND_SIZE", size)
    banded = sweep_of(graphs, distances, backward=backward, virtual=virtual, device=device)
    assert torch.equal(whole.rows, banded.rows)
    assert (whole.n_graphs, whole.n_slots) == (banded.n_graphs, banded.n_slots)
    assert len(whole.levels) == len(banded.levels)
    for one, other in zip(whole.levels, banded.levels, strict=True):
        assert (one.start, one.stop, one.first) == (other.start, other.stop, other.first)
        assert (one.weights is None) == (other.weights is None)
        if one.weights is not None and other.weights is not None:
            assert torch.equal(one.weights, other.weights)


def test_messages_beyond_memory_are_told(make_graph: GraphMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_graph(0, n_nodes=50)
    distances = graph.distances()
    monkeypatch.setattr(levels, "memory_bytes", lambda: 1000)
    with pytest.raises(GraphError, match=r"a graph of .* nodes needs .* for the messages"):
        sweep_of([graph], [distances], backward=False, virtual=True, device=torch.device("cpu"))
