"""Multiply-accumulates of one image: of an ONNX model from its shapes, of an architecture from its layers."""

from __future__ import annotations

import math
import os
import re
import tempfile
from pathlib import Path

import onnx
from onnx import helper, inliner, shape_inference

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.errors import GraphError, printable
from onnx_ghn.graph.model import ComputationGraph, Primitive
from onnx_ghn.profiling.counts import macs
from onnx_ghn.profiling.rewriting import load_structure, serialized
from onnx_ghn.profiling.sessions import timed_session
from onnx_ghn.profiling.settings import Point, Settings

__all__ = ["architecture_macs", "model_macs"]

_CELL = re.compile(r"cells\.(\d+)\.(preprocess0|preprocess1|_ops\.(\d+))\.")


def model_macs(source: str | os.PathLike[str] | onnx.ModelProto) -> int:
    """Multiply-accumulates for a batch of one, by the formulas of `onnx_ghn.profiling`. Bodies of loops are left out.

    Args:
        source: a file that has been read and found sound (`build_graph`), or a model in memory, which stays as it is.

    Raises:
        GraphError: an input has a free dimension beside the batch, or a shape cannot be inferred.
        RuntimeFailure: shapes that depend on arithmetic in the graph, and onnxruntime cannot load the model.
    """
    if isinstance(source, onnx.ModelProto):
        model, folder = onnx.ModelProto(), ""
        model.CopyFrom(source)
    else:
        model, folder = load_structure(os.fspath(source)), os.path.dirname(os.fspath(source)) or os.curdir
    _fix_inputs(model)
    if model.functions:
        model = inliner.inline_local_functions(model)
    total, unknown = _count(model)
    if unknown is not None:  # slices and reshapes by computed numbers: onnxruntime computes them while loading
        total, unknown = _count(_folded(model, folder))
    if unknown is not None:
        name = printable(unknown.name or next(iter(unknown.output), ""))
        raise GraphError(f"node {name} ({unknown.op_type}): its shapes are unknown; export the model with fixed sizes")
    return total


def _count(model: onnx.ModelProto) -> tuple[int, onnx.NodeProto | None]:
    """The sum over all nodes, and the first node whose shapes are unknown."""
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except shape_inference.InferenceError as error:
        raise GraphError(f"the model's shapes cannot be inferred ({error}); export it again") from error
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes.setdefault(value.name, tuple(dim.dim_value for dim in dims))
    total = 0
    for node in graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.type != a.GRAPH}
        inputs, outputs = ([shapes.get(name) for name in names] for names in (node.input, node.output))
        found = macs(node.op_type, attributes, inputs, outputs)
        if found is None:
            return total, node
        total += found
    return total, None


def _folded(model: onnx.ModelProto, folder: str) -> onnx.ModelProto:
    """The model with all that follows from constants computed."""
    with tempfile.TemporaryDirectory(prefix="onnx-ghn-") as scratch:
        path = Path(scratch) / "folded.onnx"
        timed_session(
            serialized(model, "the model"), Point(optimization="basic"), Settings(), folder=folder, optimized=path
        )
        return load_structure(os.fspath(path))


def _fix_inputs(model: onnx.ModelProto) -> None:
    """A batch of one. Shapes that other values declare go, as they may depend on it."""
    del model.graph.value_info[:]
    for value in model.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    stored = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name in stored:
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis == 0:
                dim.Clear()
                dim.dim_value = 1
            elif not dim.HasField("dim_value") or dim.dim_value < 1:
                name = printable(value.name)
                raise GraphError(
                    f"input {name}: dimension {axis} is free, and what a network costs depends on it; "
                    "export the model with fixed sizes (only the batch may be free)"
                )


def architecture_macs(architecture: Architecture, graph: ComputationGraph) -> int:
    """As `model_macs` of an architecture's network for 32 × 32 pixels, from its symbolic graph alone."""
    sides = _Sides(architecture)
    total = 0
    for node in graph.nodes:
        if node.primitive is Primitive.msa:
            cell = _CELL.match(node.name)
            assert cell is not None
            width = architecture.C * architecture.C_mult ** sum(
                architecture.is_reduction(i) for i in range(int(cell[1]) + 1)
            )
            total += 2 * sides.vit**4 * width  # queries by keys, then weights by values, over side² tokens
        if node.weight is not None and node.primitive is not Primitive.pos_enc and node.shape is not None:
            total += math.prod(node.shape) * sides.outputs(node.name, node.shape)
    return total


class _Sides:
    """How many outputs each channel of a layer has, from the layer's name (`deepnets1m.walk` gives the names)."""

    vit = 11  # tokens on a side: patches of 3 × 3 of 32 pixels, padded by one

    def __init__(self, architecture: Architecture) -> None:
        self._arch = architecture
        arch, is_vit = architecture, architecture.genotype.is_vit
        start = self.vit if is_vit else 16 if arch.stem_type == 0 and arch.stem_pool else 32
        first, second = start, start if is_vit or arch.stem_type == 0 else 16
        self._cells: list[tuple[int, int, int]] = []  # sides of the two inputs after preprocessing, and of the output
        halve = arch.stem_type == 1 and not is_vit
        for number in range(arch.n_cells):
            reduction = arch.is_reduction(number) and not is_vit
            end = second // 2 if reduction else second
            self._cells.append((first // 2 if halve else first, second, end))
            first, second, halve = second, end, reduction

    def outputs(self, name: str, shape: tuple[int, ...]) -> int:
        """Positions at which the weights of layer `name` are used."""
        if name.startswith("classifier."):
            return 1
        found = _CELL.match(name)
        if found is None:  # the stem
            return (self.vit if self._arch.genotype.is_vit else 16 if name.startswith("stem1.") else 32) ** 2
        first, second, end = self._cells[int(found[1])]
        if found[3] is None:
            return (first if found[2] == "preprocess0" else second) ** 2
        if ".fc1." in name or ".fc2." in name:  # of channel attention, on pooled features
            return 1
        genotype = self._arch.genotype
        edges = genotype.reduce if self._arch.is_reduction(int(found[1])) else genotype.normal
        strided = end < second and edges[int(found[3])][1] < 2
        one_row = len(shape) == 4 and shape[2] == 1 and shape[3] > 1  # 1 × k: the stride of the rows comes with k × 1
        return end * second if strided and one_row else end * end
