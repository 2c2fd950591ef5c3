"""DeepNets-1M graphs: those of published files, and those of genotypes against exported networks."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import onnx_ir as ir
import pytest
import torch

from onnx_ghn.deepnets1m import SPLITS, Architecture, open_deepnets, stream, symbolic_graph
from onnx_ghn.deepnets1m.export import network_model
from onnx_ghn.deepnets1m.network import Network
from onnx_ghn.ghn import load_ghn
from onnx_ghn.graph import ComputationGraph, build_graph
from onnx_ghn.graph.parameter import Flattened

RTOL, ATOL = 1e-4, 1e-6


@pytest.fixture(scope="module")
def published(reference: Path) -> list[dict[str, Any]]:
    """What the published code says of the 40 nets."""
    text = (reference / "ppuda/deepnets/deepnets_val_reference.json").read_text()
    return json.loads(text)["nets"]


def test_graphs_of_the_official_file(reference: Path, published: list[dict[str, Any]]) -> None:
    with open_deepnets(reference / "ppuda/deepnets/deepnets1m_eval.hdf5") as nets:
        assert nets.splits == ("val",)
        assert nets.count("val") == len(published) == 40
        for expected in published:
            index = expected["index"]
            graph = nets.graph("val", index)
            assert len(graph) == expected["n_nodes"] == nets.n_nodes("val")[index]
            assert [node.primitive.name for node in graph.nodes] == expected["primitives"]
            assert graph.edges.tolist() == sorted(expected["edges_1hop"])
            # The stored lengths are those of the edges, and make the virtual edges.
            assert np.array_equal(graph.distances(250), nets.matrix("val", index))  # type: ignore[attr-defined]
            assert len(graph.virtual_edges(50)) - len(graph.edges) == expected["n_edges_virtual"]
            shapes = {parameter.name: list(parameter.shape) for parameter in graph.parameters}
            assert shapes == dict(expected["names"])
            assert len(graph.parameters) == len(expected["names"])
            record = nets.record("val", index)
            assert record.n_params == sum(parameter.size for parameter in graph.parameters)
            kept = [graph.parameters[i] for i in graph.decoded_parameters()]
            assert {parameter.name for parameter in kept} == set(expected["params"])
            assert sum(parameter.size for parameter in kept) == expected["n_params_after_pruning"]
            assert all(bool(p.reason) == (p.name not in expected["params"]) for p in graph.parameters)


def test_predictions_for_the_official_file(reference: Path, published: list[dict[str, Any]]) -> None:
    ghn = load_ghn(reference / "ppuda/ghn2_cifar10.seed1111.safetensors")
    n_tensors = 0
    with open_deepnets(reference / "ppuda/deepnets/deepnets1m_eval.hdf5") as nets:
        for expected in published:
            graph = nets.graph("val", expected["index"])
            with torch.no_grad():
                (predicted,) = ghn([graph])
                embedding = ghn.embed([graph])[0].double()
            for figure, value in expected["embedding"].items():
                found = {"norm": embedding.norm, "mean": embedding.mean}[figure]().item()
                assert found == pytest.approx(value, rel=RTOL, abs=ATOL), (expected["index"], figure)
            by_name = {graph.parameters[i].name: tensor.double().flatten() for i, tensor in predicted.items()}
            assert set(by_name) == set(expected["params"])
            for name, figures in expected["params"].items():
                tensor = by_name[name]
                found = [tensor.norm().item(), tensor.mean().item(), *tensor[:3].tolist()][: len(figures)]
                np.testing.assert_allclose(found, figures, RTOL, ATOL, err_msg=f"{expected['index']} {name}")
                n_tensors += 1
    assert n_tensors == sum(len(expected["params"]) for expected in published)


def isomorphic(ours: ComputationGraph, theirs: ComputationGraph) -> bool:
    """Primitives and shapes included."""
    found = []
    for graph in (ours, theirs):
        other = nx.DiGraph()
        other.add_nodes_from((i, {"label": (node.primitive, node.shape)}) for i, node in enumerate(graph.nodes))
        other.add_edges_from(graph.edges.tolist())
        found.append(other)
    return nx.vf2pp_is_isomorphic(*found, node_label="label")


def decoded(graph: ComputationGraph) -> dict[str, str]:
    """Names of parameters, and the kind of node that decodes each."""
    return {graph.parameters[i].name: node.primitive.name for node in graph.nodes for i in node.parameters}


def flattened(graph: ComputationGraph) -> dict[str, Flattened]:
    """Weights whose inputs are a flattened map."""
    weights = (graph.parameters[node.weight] for node in graph.nodes if node.weight is not None)
    return {weight.name: weight.flattened for weight in weights if weight.flattened is not None}


def second_export(architecture: Architecture, large_images: bool) -> ir.Model:
    """By torch's newer exporter, which leaves equal sub-expressions and nested concatenations as they are."""
    net = Network(architecture, large_images=large_images).eval()
    image = torch.randn(2, 3, net.image_size, net.image_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(net, (image,), dynamo=True, optimize=False, verbose=False)
    assert program is not None
    return ir.serde.deserialize_model(program.model_proto)


def check(split: str, seed: int, n: int) -> None:
    for number, architecture in enumerate(itertools.islice(stream(split, seed), n)):
        large = number % 2 == 1
        graph = symbolic_graph(architecture, large_images=large)
        net = Network(architecture, large_images=large)
        shapes = {name: tuple(tensor.shape) for name, tensor in net.named_parameters()}
        assert {parameter.name: parameter.shape for parameter in graph.parameters} == shapes
        exported = build_graph(network_model(architecture, large_images=large))
        # torch's first exporter merges equal pools on one input, and concatenations of concatenations.
        if not isomorphic(graph, exported):
            exported = build_graph(second_export(architecture, large))
        assert isomorphic(graph, exported), (split, seed, number)
        assert decoded(exported) == decoded(graph)
        assert flattened(exported) == flattened(graph)
        assert graph.head == (len(graph) - 2, len(graph) - 1)


@pytest.mark.parametrize("split", SPLITS)
def test_symbolic_graph_is_that_of_the_export(split: str) -> None:
    check(split, 105 if split == "dense" else 101, 2)  # nets that the first exporter leaves as they are


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_symbolic_graph_is_that_of_the_export_for_200_nets(split: str) -> None:
    check(split, 200, 25)
