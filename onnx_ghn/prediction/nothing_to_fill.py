"""Why a model has no tensor that a GHN could fill, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.graph import ComputationGraph

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["why_none"]

#: Operators of ai.onnx.ml that hold what was learned in attributes, which are no tensors.
_LEARNED_ATTRIBUTES = frozenset(
    {
        "LinearClassifier",
        "LinearRegressor",
        "SVMClassifier",
        "SVMRegressor",
        "TreeEnsemble",
        "TreeEnsembleClassifier",
        "TreeEnsembleRegressor",
    }
)


def why_none(graph: ComputationGraph, model: ir.Model) -> str:
    """The reason, or the remedy where an export alone can bring the tensors, as the end of a sentence.

    Args:
        graph: one without parameters that are trained.
        model: what the graph was read from.
    """
    frozen = [parameter.name for parameter in graph.parameters if parameter.frozen]
    if frozen:
        what = "its only parameter is" if len(frozen) == 1 else f"all of its {len(frozen)} parameters are"
        return f"{what} frozen, first {frozen[0]!r}; export it with those that are to be trained"
    for node in model.graph:
        if node.domain == "ai.onnx.ml" and node.op_type in _LEARNED_ATTRIBUTES:
            name = f" (node {node.name!r})" if node.name else ""
            return (
                f"what {node.op_type}{name} learned is in its attributes, not in tensors; fit such a model with the "
                "library that wrote it"
            )
    return "export the model with its parameters"
