"""What a model holds and what a GHN would make of it, without predicting."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Unpack

from onnx_ghn.graph import ComputationGraph
from onnx_ghn.graph.builder import read_graph
from onnx_ghn.json_types import Json
from onnx_ghn.prediction.choosing import choose
from onnx_ghn.prediction.coverage import CoverageReport
from onnx_ghn.prediction.options import PredictKeywords, PredictOptions
from onnx_ghn.prediction.origins import Origin
from onnx_ghn.prediction.plan import constants_of, plan, uncertain_of
from onnx_ghn.prediction.stored_zeros import note_zeros
from onnx_ghn.shipped import default_policy

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["Inspection", "inspect_model"]


@dataclasses.dataclass
class Inspection:
    """A model's graph, and the coverage that a prediction would have."""

    graph: ComputationGraph
    coverage: CoverageReport

    def to_dict(self) -> Json:
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
    source: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    ghn: str | os.PathLike[str] | None = None,
    *,
    base_dir: str | os.PathLike[str] | None = None,
    options: PredictOptions | None = None,
    **changes: Unpack[PredictKeywords],
) -> Inspection:
    """Read a model as `predict` would, and decide on each of its tensors as `predict` would.

    Args:
        source: a file, a ModelProto or an ir.Model; none of them is changed.
        ghn: whose graph rules and policy apply; None takes those of the default GHN.
        base_dir, options, changes: as of `predict`.

    Raises:
        OnnxGhnError: as `predict`.
    """
    from onnx_ghn.onnx_io.shape_checks import check_shapes
    from onnx_ghn.passes import open_model
    from onnx_ghn.passes.restoring import check_frozen

    options = PredictOptions.of(options, **changes)
    rules, name, policy_file = "onnx", "", default_policy()
    if policy_file is not None:
        name = policy_file.parent.name
    if ghn is not None:
        from onnx_ghn.ghn import read_ghn

        network = read_ghn(ghn)
        rules, name, policy_file = network.config.graph_rules, network.config.name, network.policy_file
    name = name or "unnamed GHN"
    opened = open_model(source, base_dir=base_dir, unfold_batchnorm=options.unfold_batchnorm)
    graph, flat = read_graph(opened.model, opened.stored, rules)
    check_shapes(opened.model, opened.stored)
    notes = [*opened.notes, *check_frozen(opened.model, opened.stored)]
    origins: dict[str, Origin] = {}
    if options.donors:
        from onnx_ghn.prediction import inheriting
        from onnx_ghn.prediction.kept_outputs import Unmeasured

        inheritance = inheriting.inheritance_of(opened, flat, graph, options)
        origins = inheriting.origins_of(inheritance)
        notes += inheriting.inheritance_notes(inheritance, options, Unmeasured("an inspection runs nothing"))
    choice = choose(options, policy_file, name, opened.model, graph, opened.stored)
    planned = plan(graph, opened.stored, options, verdicts=choice.verdicts, origins=origins)
    notes += note_zeros(planned, options)
    decisions = [*planned, *uncertain_of(graph)]
    return Inspection(graph, CoverageReport(decisions, notes, constants_of(graph), choice, name))
