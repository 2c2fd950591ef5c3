"""Batch norms that normalise by the statistics of their batch, written as arithmetic: independent of the package."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["with_batch_statistics"]

_AXES_ARE_INPUTS = 18  # opset of ReduceMean


def with_batch_statistics(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model in which BatchNormalization uses mean and variance of the batch, not those it stores.

    In a fresh network these are 0 and 1, and what a deep one computes with them has no meaningful scale.
    """
    model = onnx.inliner.inline_local_functions(model) if model.functions else _copy(model)
    graph = model.graph
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    inferred = onnx.shape_inference.infer_shapes(model).graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
        if value.type.tensor_type.HasField("shape")
    }
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        nodes += _arithmetic(node, ranks.get(node.input[0], ranks.get(node.output[0], 4)), opset)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _arithmetic(norm: onnx.NodeProto, rank: int, opset: int) -> list[onnx.NodeProto]:
    x, scale, shift = norm.input[:3]
    y = norm.output[0]
    epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
    axes = [axis for axis in range(rank) if axis != 1]
    made: list[onnx.NodeProto] = []

    def op(kind: str, *inputs: str, out: str, **attributes: object) -> str:
        made.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def constant(name: str, values: np.ndarray) -> str:
        return op("Constant", out=f"{y}/{name}", value=numpy_helper.from_array(values))

    def mean(value: str, name: str) -> str:
        if opset >= _AXES_ARE_INPUTS:
            return op("ReduceMean", value, constant(f"{name}_axes", np.array(axes)), out=f"{y}/{name}", keepdims=1)
        return op("ReduceMean", value, out=f"{y}/{name}", keepdims=1, axes=axes)

    column = constant("column", np.array([1, -1] + [1] * (rank - 2)))
    centred = op("Sub", x, mean(x, "mean"), out=f"{y}/centred")
    variance = mean(op("Mul", centred, centred, out=f"{y}/squared"), "variance")
    spread = op("Add", variance, constant("epsilon", np.array(epsilon, np.float32)), out=f"{y}/spread")
    normal = op("Div", centred, op("Sqrt", spread, out=f"{y}/std"), out=f"{y}/normal")
    scaled = op("Mul", normal, op("Reshape", scale, column, out=f"{y}/scale"), out=f"{y}/scaled")
    op("Add", scaled, op("Reshape", shift, column, out=f"{y}/shift"), out=y)
    return made
