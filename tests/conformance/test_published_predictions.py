"""Predictions from ONNX files equal those of the published PyTorch code, to the last figure that it printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

from onnx_ghn.ghn import GHNConfig, load_ghn
from onnx_ghn.graph import ComputationGraph, build_graph

RTOL, ATOL = 1e-4, 1e-6
FILES = [
    *(f"ppuda/ghn1_cifar10__{a}" for a in ("resnet18", "resnet50", "mobilenet_v2")),
    *(f"ppuda/ghn2_cifar10__{a}" for a in ("resnet18", "resnet50", "mobilenet_v2")),
    *(f"ppuda/mlp_cifar10__{a}" for a in ("resnet18", "resnet50", "mobilenet_v2")),
    *(
        f"ppuda/ghn2_imagenet__{a}"
        for a in (
            "resnet18",
            "resnet50",
            "mobilenet_v2",
            "mobilenet_v3_small",
            "squeezenet1_1",
            "vgg16",
            "googlenet",
            "convnext_tiny",
        )
    ),
    *(
        f"ghn3/ghn3_t_imagenet__{a}"
        for a in ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "vit_b_32")
    ),
]
#: By default each GHN on a small network through both exporters, and each other architecture once; all by `-m slow`.
BOTH = ("resnet18",)
ONCE = ("ghn1_cifar10__mobilenet_v2", "ghn3_t_imagenet__convnext_tiny")
ONCE += tuple(f"ghn2_imagenet__{name}" for name in ("mobilenet_v3_small", "squeezenet1_1", "googlenet"))
ONCE_BY_DYNAMO = ("ghn3_t_imagenet__vit_b_32", "ghn3_t_imagenet__efficientnet_b0")
CASES = [
    pytest.param(
        file,
        exporter,
        marks=[]
        if file.endswith(BOTH + (ONCE if exporter == "torchscript" else ONCE_BY_DYNAMO))
        else [pytest.mark.slow],
    )
    for file in FILES
    for exporter in ("torchscript", "dynamo")
]


def same_graph(graph: ComputationGraph, primitives: list[str], edges: list[list[int]]) -> bool:
    """Whether two graphs are isomorphic, primitives included."""
    ours, theirs = nx.DiGraph(), nx.DiGraph()
    ours.add_nodes_from((i, {"primitive": node.primitive.name}) for i, node in enumerate(graph.nodes))
    ours.add_edges_from(graph.edges.tolist())
    theirs.add_nodes_from((i, {"primitive": name}) for i, name in enumerate(primitives))
    theirs.add_edges_from(edges)
    return nx.vf2pp_is_isomorphic(ours, theirs, node_label="primitive")


def figures(array: np.ndarray) -> dict[str, Any]:
    flat = array.reshape(-1).astype(np.float64)
    return {
        "n": flat.size,
        "mean": flat.mean(),
        "std": flat.std(),
        "norm": np.linalg.norm(flat),
        "absmax": np.abs(flat).max(),
        "head": flat[:6],
        "tail": flat[-3:],
    }


@pytest.mark.parametrize(("file", "exporter"), CASES)
def test_prediction_equals_the_published_one(file: str, exporter: str, reference: Path, exported: Any) -> None:
    expected = json.loads((reference / f"{file}.json").read_text())
    stem = file.split("__")[0]
    raw_config = json.loads((reference / f"{stem}.config.json").read_text())
    ghn = load_ghn(reference / f"{stem}.seed1111.safetensors")
    assert isinstance(ghn.config, GHNConfig)
    size = 32 if "cifar10" in stem else 224
    path = exported(expected["model"], exporter, raw_config["num_classes"], size)

    graph = build_graph(path, rules=ghn.config.graph_rules)
    assert same_graph(graph, expected["primitives"], expected["edges_1hop"])
    virtual = graph.virtual_edges(ghn.config.cutoff)
    virtual = virtual[virtual[:, 2] > 1]
    assert len(virtual) == expected["n_edges_virtual"]
    assert virtual[:, 2].sum() == expected["sum_virtual_distance"]

    embedding = ghn.embed([graph])[0].detach().numpy()
    assert embedding.std() == pytest.approx(expected["embedding"]["std"], rel=RTOL)
    assert np.linalg.norm(embedding) == pytest.approx(expected["embedding"]["norm"], rel=RTOL)
    assert embedding.mean() == pytest.approx(expected["embedding"]["mean"], rel=RTOL, abs=ATOL)

    blocks = ghn.blocks(graph)
    predicted = {
        graph.parameters[i].name: graph.parameters[i].layout.from_canonical(block.array())
        for i, block in blocks.items()
    }
    skipped = {*expected["not_predicted"], "class_token", "encoder.pos_embedding"}
    assert set(expected["params"]) - skipped <= set(predicted)
    for name, wanted in expected["params"].items():
        if name in skipped:
            continue
        found = figures(predicted[name])
        for key, value in wanted.items():
            np.testing.assert_allclose(found[key], value, rtol=RTOL, atol=ATOL, err_msg=f"{name} {key}")
