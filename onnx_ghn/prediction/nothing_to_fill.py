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
#: Operators of layers; their second input is the weight.
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})


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
    seconds = [node.inputs[1] for node in model.graph if node.op_type in _LAYERS and len(node.inputs) > 1]
    given = [value.name for value in seconds if value is not None and _is_weight(value)]
    if given:
        return (
            f"its weights are inputs, first {given[0]!r}, as onnxruntime's training artifacts have them; predict the "
            "model that these were made from"
        )
    return "export the model with its parameters"


def _is_weight(value: ir.Value) -> bool:
    """Whether a value is an input of the model whose size does not depend on a batch."""
    shape = value.shape
    is_fixed = shape is not None and len(shape) > 1 and all(isinstance(dim, int) for dim in shape)
    return value.is_graph_input() and value.const_value is None and is_fixed
