"""Adaptive pooling in the forms that torch's exporters give it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onnx_ghn.graph import ComputationGraph, build_graph
from onnx_ghn.torch_export import module_to_onnx

pytestmark = pytest.mark.filterwarnings("ignore")


def net() -> nn.Module:
    """As VGG: pooled to 7 x 7 before the classifier, whatever the images' size."""
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(4 * 49, 5))
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(8), *head).eval()


def kinds(graph: ComputationGraph) -> list[tuple[str, tuple[int, ...] | None]]:
    return [(node.primitive.name, node.shape) for node in graph.nodes]


@pytest.mark.parametrize("rules", ["ppuda", "ghn3", "onnx"])
def test_a_map_that_grows_is_pooled_as_one_that_fits(rules: str) -> None:
    """At 8 x 8 the newer exporter gathers windows and takes their mean; at 56 x 56 the first writes a 1 x 1 pool."""
    program = torch.onnx.export(net(), (torch.zeros(1, 3, 8, 8),), dynamo=True, optimize=False, verbose=False)
    assert program is not None
    operators = [node.op_type for node in program.model_proto.graph.node]
    assert "GatherND" in operators
    assert "ReduceMean" in operators
    fitting = build_graph(module_to_onnx(net(), (torch.zeros(1, 3, 56, 56),)), rules)
    grown = build_graph(program.model_proto, rules)
    assert kinds(grown) == kinds(fitting)
    assert grown.edges.tolist() == fitting.edges.tolist()
    assert [name for name, _ in kinds(grown)].count("glob_avg") == 1
