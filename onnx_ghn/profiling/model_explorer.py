"""Times of operators as node data for Model Explorer, which paints the graph's nodes by them.

https://github.com/google-ai-edge/model-explorer/wiki/2.-User-Guide#custom-node-data: a node is named by its id, which
model-explorer-onnx takes from the node's name, or makes of its place where it has none.
"""

from __future__ import annotations

import json

from onnx_ghn.profiling import rewriting
from onnx_ghn.profiling.report import ProfileReport

__all__ = ["node_data_json"]


def node_data_json(report: ProfileReport) -> str:
    """Milliseconds of a run (the roofline's, where nothing was run) by node, of the last point that has operators.

    A fused operator's time stands at the last of the nodes that it stands for, so that sums over groups are right.
    """
    point = next(point for point in reversed(report.points) if point.operators is not None)
    assert point.operators is not None
    ids = _ids(report.model)
    times: dict[str, float] = {}
    for operator in point.operators.operators:
        value = operator.mean_ms if operator.mean_ms is not None else operator.estimate_ms
        places = [ids[name] for name in operator.covers if name in ids]
        if value is not None and places:
            times[places[-1]] = times.get(places[-1], 0.0) + value
    kind = "ms" if point.operators.repetitions else "ms, estimated"
    told = {
        "name": f"{point.point.label} ({kind})",
        "results": {name: {"value": value} for name, value in times.items()},
        "gradient": [{"stop": 0, "bgColor": "#ffffff"}, {"stop": 1, "bgColor": "#f97316"}],
    }
    return json.dumps(told, indent=2)


def _ids(path: str) -> dict[str, str]:
    """Model Explorer's ids of the main graph's nodes, by the names that they have here."""
    proto = rewriting.load_structure(path)
    nodes = list(proto.graph.node)
    unnamed = [not node.name for node in nodes]
    rewriting.name_nodes(proto)
    return {
        node.name: f"<node_{number}>" if is_unnamed else node.name
        for number, (node, is_unnamed) in enumerate(zip(nodes, unnamed, strict=True))
    }
