"""ComputationGraph against networkx on random graphs."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_ghn.errors import GraphError
from onnx_ghn.graph import ComputationGraph, Layout, Node, Parameter, Primitive, Role


@st.composite
def graphs(draw: st.DrawFn) -> ComputationGraph:
    n = draw(st.integers(1, 25))
    pairs = [(a, b) for b in range(n) for a in range(b)]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=60)) if pairs else []
    nodes = tuple(Node(Primitive(draw(st.integers(0, 14)))) for _ in range(n))
    return ComputationGraph(nodes, np.array(edges, dtype=np.int64).reshape(-1, 2))


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_networkx_has_the_same_nodes_and_edges(graph: ComputationGraph) -> None:
    other = graph.to_networkx()
    assert list(other) == list(range(len(graph)))
    assert sorted(other.edges) == [tuple(edge) for edge in graph.edges.tolist()]
    assert [kind for _, kind in other.nodes(data="primitive")] == [node.primitive.name for node in graph.nodes]


@settings(max_examples=100, deadline=None)
@given(graphs(), st.integers(1, 8))
def test_distances_and_virtual_edges(graph: ComputationGraph, cutoff: int) -> None:
    expected = np.zeros((len(graph), len(graph)), dtype=np.int64)
    for source, lengths in nx.all_pairs_shortest_path_length(graph.to_networkx(), cutoff=cutoff):
        for target, length in lengths.items():
            expected[source, target] = length
    np.testing.assert_array_equal(graph.distances(cutoff), expected)
    virtual = graph.virtual_edges(cutoff)
    assert virtual.shape == (np.count_nonzero(expected), 3)
    assert {(a, b): d for a, b, d in virtual.tolist()} == {
        (a, b): expected[a, b] for a, b in zip(*np.nonzero(expected), strict=True)
    }


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_levels(graph: ComputationGraph) -> None:
    expected = {i: rank for rank, nodes in enumerate(nx.topological_generations(graph.to_networkx())) for i in nodes}
    assert graph.levels.tolist() == [expected[i] for i in range(len(graph))]


@settings(max_examples=100, deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_nodes_in_any_order_are_sorted(graph: ComputationGraph, random: object) -> None:
    order = list(range(len(graph)))
    random.shuffle(order)  # type: ignore[attr-defined]
    place = {old: new for new, old in enumerate(order)}
    nodes = [graph.nodes[old]._replace(name=str(old)) for old in order]
    edges = [(place[a], place[b]) for a, b in graph.edges.tolist()]
    found = ComputationGraph.topological(nodes, edges)
    assert (found.edges[:, 0] < found.edges[:, 1]).all()
    names = [int(node.name) for node in found.nodes]
    assert {(names[a], names[b]) for a, b in found.edges.tolist()} == set(map(tuple, graph.edges.tolist()))


def test_a_sorted_graph_keeps_its_order() -> None:
    nodes = [Node(Primitive.conv, name=str(i)) for i in range(6)]
    found = ComputationGraph.topological(nodes, [(0, 3), (0, 1), (1, 5), (3, 5), (2, 5), (4, 5)])
    assert [node.name for node in found.nodes] == ["0", "1", "2", "3", "4", "5"]


def test_edges_are_sorted_unique_and_read_only() -> None:
    graph = ComputationGraph((Node(Primitive.input),) * 3, np.array([[1, 2], [0, 1], [1, 2]]))
    assert graph.edges.tolist() == [[0, 1], [1, 2]]
    with pytest.raises(ValueError, match="read-only"):
        graph.edges[0, 0] = 1


@pytest.mark.parametrize("edges", [[[1, 0]], [[1, 1]], [[0, 3]], [[-1, 0]]])
def test_wrong_edges(edges: list[list[int]]) -> None:
    with pytest.raises(GraphError):
        ComputationGraph((Node(Primitive.input),) * 2, np.array(edges))


def test_a_cycle() -> None:
    with pytest.raises(GraphError, match="cycle"):
        ComputationGraph.topological([Node(Primitive.conv)] * 3, [(0, 1), (1, 2), (2, 0)])


def chain(*nodes: Node) -> ComputationGraph:
    return ComputationGraph(nodes, np.array([[i, i + 1] for i in range(len(nodes) - 1)]).reshape(-1, 2))


def test_the_head_is_the_last_weight_and_the_last_bias() -> None:
    stem = Node(Primitive.input)
    weight, bias, table = (
        Node(Primitive.conv, weight=0),
        Node(Primitive.bias, shift=1),
        Node(Primitive.pos_enc, weight=0),
    )
    assert chain(stem, weight, bias).head == (1, 2)
    assert chain(stem, weight, Node(Primitive.sum)).head == (1, None)
    assert chain(stem, table, bias).head == (None, 2)
    assert chain(stem, bias, weight).head == (None, None)
    assert chain(stem).head == (None, None)
    assert chain(stem, Node(Primitive.conv), Node(Primitive.bias)).head == (None, None)  # decoded elsewhere


def test_the_summary_counts_what_can_be_trained() -> None:
    parameters = (
        Parameter("w", Role.weight, Layout((3, 4))),
        Parameter("mean", Role.statistic, Layout((5,))),
        Parameter("b", Role.bias, Layout((3,))),
    )
    graph = ComputationGraph(
        (Node(Primitive.input), Node(Primitive.conv, weight=0)), np.array([[0, 1]]), parameters, "m"
    )
    assert repr(graph) == "ComputationGraph('m': 2 nodes, 1 edges, 3 parameters (1 in nodes), 15 trainable elements)"
    assert graph.decoded_parameters() == {0}
    assert graph.primitives.tolist() == [9, 4]


def test_the_vocabulary_never_moves() -> None:
    names = "max_pool avg_pool sep_conv dil_conv conv msa cse sum concat input bias bn ln pos_enc glob_avg"
    assert [p.name for p in Primitive] == names.split()[: len(Primitive)]
    assert [int(p) for p in Primitive] == list(range(15))
