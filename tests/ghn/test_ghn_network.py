"""The whole GHN: shapes, batches, values by hand, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ghn_samples import SMALL, WEIGHTS, GraphMaker

from onnx_ghn.errors import GraphError
from onnx_ghn.ghn import GHN, GHNConfig, new_ghn
from onnx_ghn.graph import ComputationGraph, Layout, Node, Parameter, Primitive, Role


def _chain(*nodes: Node, parameters: list[Parameter]) -> ComputationGraph:
    edges = np.array([(i, i + 1) for i in range(len(nodes) - 1)], dtype=np.int64).reshape(-1, 2)
    return ComputationGraph(nodes, edges, tuple(parameters), "chain")


def test_every_shape_is_predicted(ghn: GHN) -> None:
    shapes = [*WEIGHTS, (0, 4), (3, 0, 3, 3), (700, 3, 40, 2), (1, 33, 33), (1, 32, 17, 19)]
    vectors: list[tuple[int, ...]] = [(1,), (5,), (1000,), (0,), (), (6, 1, 1)]
    parameters = [Parameter(f"w{i}", Role.weight, Layout(s)) for i, s in enumerate(shapes)]
    nodes = [Node(Primitive.input), *[Node(Primitive.conv, s, weight=i) for i, s in enumerate(shapes)]]
    for shape in vectors:
        n = len(parameters)
        parameters += [Parameter(f"v{n + i}", Role.other, Layout(shape)) for i in range(2)]
        nodes.append(Node(Primitive.bn, shape, scale=n, shift=n + 1))
    graph = _chain(*nodes, Node(Primitive.glob_avg), parameters=parameters)
    with torch.no_grad():
        (predicted,) = ghn([graph])
    blocks = ghn.blocks(graph)
    assert set(predicted) == set(blocks) == set(range(len(parameters)))
    for index, parameter in enumerate(parameters):
        array = blocks[index].array()
        assert array.shape == tuple(predicted[index].shape) == parameter.shape
        assert np.isfinite(array).all()
        assert array.dtype == np.float32
        assert blocks[index].values.size <= max(array.size, 1)
        np.testing.assert_allclose(array, predicted[index].numpy(), rtol=1e-6, atol=1e-7)


def test_batch_equals_one_by_one(ghn: GHN, make_graph: GraphMaker) -> None:
    graphs = [make_graph(seed, n) for seed, n in ((0, 30), (1, 12), (2, 45), (3, 30))]
    with torch.no_grad():
        together, embeddings = ghn(graphs), ghn.embed(graphs)
        for graph, predicted, embedding in zip(graphs, together, embeddings, strict=True):
            torch.testing.assert_close(ghn.embed([graph])[0], embedding, rtol=1e-4, atol=1e-5)
            (alone,) = ghn([graph])
            assert alone.keys() == predicted.keys() == graph.decoded_parameters()
            for index, tensor in alone.items():
                torch.testing.assert_close(predicted[index], tensor, rtol=1e-4, atol=1e-5)


def test_same_graph_same_bytes(ghn: GHN, make_graph: GraphMaker) -> None:
    graph = make_graph(0)
    state = torch.get_rng_state()
    first, second = ghn.blocks(graph), ghn.blocks(make_graph(0))
    assert all(first[i].array().tobytes() == second[i].array().tobytes() for i in first)
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_reach_every_part(ghn: GHN, make_graph: GraphMaker) -> None:
    graphs = [make_graph(seed) for seed in range(3)]
    loss = sum((t * t).sum() for predicted in ghn(graphs) for t in predicted.values())
    loss.backward()  # type: ignore[union-attr]
    without = {name for name, p in ghn.named_parameters() if p.grad is None or not p.grad.isfinite().all()}
    assert not without


@pytest.mark.parametrize("norm", [True, False])
def test_values_by_hand(norm: bool) -> None:
    """Rows of the 1-D decoder, squashing, fan-in and the class layers, from the embeddings on."""
    ghn = new_ghn(GHNConfig.preset("ghn2", weight_norm=norm, **SMALL), seed=1)
    shapes = [(20, 30, 3, 3), (20,), (20,), (10, 20), (10,)]
    parameters = [Parameter(f"p{i}", Role.other, Layout(s)) for i, s in enumerate(shapes)]
    graph = _chain(
        Node(Primitive.input),
        Node(Primitive.conv, shapes[0], weight=0),
        Node(Primitive.bn, shapes[1], scale=1, shift=2),
        Node(Primitive.conv, shapes[3], weight=3),
        Node(Primitive.bias, shapes[4], shift=4),
        parameters=parameters,
    )
    with torch.no_grad():
        (x,), (predicted,) = ghn.embed([graph]), ghn([graph])
        vectors = ghn.decoder_1d(x).view(5, 2, 16)
        scale, shift = vectors[2, 0], vectors[2, 1]
        bias = ghn.bias_class(vectors[4])[1]
        conv = ghn.decoder(x[1:2], 16, 12, (3, 3))[0].repeat(2, 3, 1, 1)[:20, :30]
        head = ghn.decoder.class_weight(x[3:4], 12)[0].repeat(1, 2)[:, :20]
        if norm:
            scale, shift, bias = 2 * torch.sigmoid(scale / 2), torch.tanh(shift / 5), torch.tanh(bias / 5)
            conv, head = conv * (2 / 270) ** 0.5, head * (2 / 20) ** 0.5
    for found, expected in (
        (1, scale.repeat(2)[:20]),
        (2, shift.repeat(2)[:20]),
        (4, bias),
        (0, conv),
        (3, head),
    ):
        torch.testing.assert_close(predicted[found], expected, rtol=1e-5, atol=1e-6)


def test_head_as_convolution_and_other_class_counts() -> None:
    ghn = new_ghn(GHNConfig.preset("ghn3", **SMALL), seed=1)

    def head(shape: tuple[int, ...], classes: int) -> dict[int, torch.Tensor]:
        parameters = [
            Parameter("w", Role.weight, Layout(shape)),
            Parameter("b", Role.bias, Layout((classes,))),
        ]
        graph = _chain(
            Node(Primitive.input),
            Node(Primitive.conv, (10, 8, 1, 1), weight=0),
            Node(Primitive.bias, (10,), shift=1),
            parameters=parameters,
        )
        with torch.no_grad():
            out: dict[int, torch.Tensor] = ghn([graph])[0]
        return out

    plain = head((10, 8), 10)
    torch.testing.assert_close(head((10, 8, 1, 1), 10)[0][..., 0, 0], plain[0])
    torch.testing.assert_close(head((4, 8), 4)[0], plain[0][:4])
    torch.testing.assert_close(head((4, 8), 4)[1], plain[1][:4])
    torch.testing.assert_close(head((23, 8), 23)[0], plain[0].repeat(3, 1)[:23])
    torch.testing.assert_close(head((23, 8), 23)[1], plain[1].repeat(3)[:23])
    assert head((10, 8, 3, 3), 10)[0].shape == (10, 8, 3, 3)


def test_huge_target_stays_small() -> None:
    ghn = new_ghn(GHNConfig.preset("ghn2", **SMALL))
    shape = (50_000, 200_000)  # 40 GB
    node = Node(Primitive.conv, shape, weight=0)
    graph = _chain(
        Node(Primitive.input),
        node,
        Node(Primitive.sum),
        parameters=[Parameter("w", Role.weight, Layout(shape))],
    )
    block = ghn.blocks(graph)[0]
    assert block.is_tiled
    assert block.values.size <= 16 * 12
    assert block.shape == shape


def test_bad_graphs() -> None:
    ghn = new_ghn(GHNConfig.preset("ghn2", **SMALL))
    empty = ComputationGraph((), np.zeros((0, 2), dtype=np.int64))
    with pytest.raises(GraphError, match="no nodes"):
        ghn([empty])
    with pytest.raises(GraphError, match="parameter 3"):
        ghn.blocks(_chain(Node(Primitive.conv, (3, 3), weight=3), parameters=[]))
    assert ghn([]) == []
    assert ghn.blocks(_chain(Node(Primitive.input), parameters=[])) == {}
