"""What a model holds and what a GHN would make of it, without predicting."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from onnx_ghn.graph import ComputationGraph, Role, build_graph
from onnx_ghn.prediction.coverage import CoverageEntry, CoverageReport, Outcome

if TYPE_CHECKING:
    import onnx

__all__ = ["Inspection", "inspect_model"]


@dataclasses.dataclass
class Inspection:
    """A model's graph, and the coverage that a prediction would have."""

    graph: ComputationGraph
    coverage: CoverageReport

    def to_dict(self) -> dict[str, Any]:
        """For JSON: nodes, edges, and the coverage report."""
        nodes = [
            {
                "primitive": node.primitive.name,
                "name": node.name,
                "shape": None if node.shape is None else list(node.shape),
                "parameters": [self.graph.parameters[i].name for i in node.parameters],
            }
            for node in self.graph.nodes
        ]
        return {
            "name": self.graph.name,
            "nodes": nodes,
            "edges": self.graph.edges.tolist(),
            "coverage": self.coverage.to_dict(),
        }


def inspect_model(
    source: str | os.PathLike[str] | onnx.ModelProto, ghn: str | os.PathLike[str] | None = None
) -> Inspection:
    """Read a model as `predict` would.

    Args:
        ghn: whose graph rules apply; None takes those of the default GHN. Without it torch is not loaded.

    Raises:
        OnnxGhnError: as `predict`.
    """
    rules = "onnx"
    if ghn is not None:
        from onnx_ghn.ghn import load_ghn

        rules = load_ghn(ghn).config.graph_rules
    graph = build_graph(source, rules=rules)
    decoded = graph.decoded_parameters()
    entries = []
    for index, parameter in enumerate(graph.parameters):
        outcome: Outcome = "predicted"
        reason = ""
        if parameter.role is Role.statistic:
            outcome = "statistic"
        elif parameter.frozen:
            outcome = "frozen"
        elif index not in decoded:
            kept = parameter.role is Role.other and parameter.op != "PRelu"
            outcome, reason = "kept" if kept else "fallback", parameter.reason or "no node decodes it"
        entries.append(CoverageEntry(parameter, outcome, reason))
    return Inspection(graph, CoverageReport(entries))
