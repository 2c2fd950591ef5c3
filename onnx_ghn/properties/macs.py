"""Multiply-accumulates of one image: of an ONNX model from its shapes, of an architecture from its layers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import onnx
from onnx import helper, inliner, shape_inference

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.definition import forward
from onnx_ghn.deepnets1m.genotypes import HEADS
from onnx_ghn.deepnets1m.layer_set import Outline, Pair
from onnx_ghn.errors import GraphError, printable
from onnx_ghn.graph.model import ComputationGraph
from onnx_ghn.profiling.counted_run import macs_of_a_run
from onnx_ghn.profiling.counts import macs
from onnx_ghn.profiling.known_operators import sums_no_products
from onnx_ghn.profiling.lost_data import zero_filled
from onnx_ghn.profiling.rewriting import load_structure, serialized
from onnx_ghn.profiling.sessions import timed_session
from onnx_ghn.profiling.settings import Point, Settings
from onnx_ghn.scratch import scratch_folder

__all__ = ["architecture_macs", "model_macs"]


def model_macs(
    source: str | os.PathLike[str] | onnx.ModelProto,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> int:
    """Multiply-accumulates for a batch of one, by the formulas of `onnx_ghn.profiling`.

    They follow from shapes where these do; else, and where layers stand in loops, from a run on drawn inputs.

    Args:
        source: a file that has been read and found sound (`build_graph`), or a model in memory, which stays as it is.
        shapes, sizes: of inputs, and of symbols of their shapes, where the model leaves them free.

    Raises:
        GraphError: an input has a free dimension beside the batch, or shapes contradict each other.
        RuntimeFailure: only a run tells, and onnxruntime cannot run the model, or is not installed.
    """
    if isinstance(source, onnx.ModelProto):
        model, folder = onnx.ModelProto(), ""
        model.CopyFrom(source)
    else:
        model, folder = load_structure(os.fspath(source)), os.path.dirname(os.fspath(source)) or os.curdir
    _fix_inputs(model, shapes or {}, sizes or {})
    if model.functions:
        model = inliner.inline_local_functions(model)
    if not any(_turns_on_products(node) for node in model.graph.node):
        total = _count(model)
        if total is None:  # slices and reshapes by computed numbers: onnxruntime computes them while loading
            total = _count(_folded(model, folder))
        if total is not None:
            return total
    with scratch_folder() as scratch:
        path = source
        if isinstance(source, onnx.ModelProto):
            path = scratch / "model.onnx"
            path.write_bytes(serialized(source, "the model"))
        return macs_of_a_run(path, scratch, shapes=shapes or {}, sizes=sizes or {})


def _turns_on_products(node: onnx.NodeProto, within: bool = False) -> bool:
    """Whether a node is a loop, or holds one, whose body sums products: how often, a run tells."""
    within = within or (node.op_type in ("Loop", "Scan") and not node.domain)
    return any(
        (within and not sums_no_products(inner.op_type)) or _turns_on_products(inner, within)
        for attribute in node.attribute
        if attribute.type == attribute.GRAPH
        for inner in attribute.g.node
    )


def _count(model: onnx.ModelProto) -> int | None:
    """The sum over all nodes; None where shapes are unknown, or do not fit a batch of one."""
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
        if found is None or (node.op_type == "Reshape" and _sizes(inputs[:1]) != _sizes(outputs)):
            return None
        total += found
    return total


def _sizes(shapes: list[tuple[int, ...] | None]) -> list[int]:
    """The numbers of elements of those that are known."""
    return [math.prod(shape) for shape in shapes if shape is not None]


def _folded(model: onnx.ModelProto, folder: str) -> onnx.ModelProto:
    """The model with all that follows from constants computed."""
    with scratch_folder() as scratch:
        path = scratch / "folded.onnx"
        if (filled := zero_filled(model, folder, scratch)) is not None:
            model, folder = filled, os.fspath(scratch)
        timed_session(
            serialized(model, "the model"), Point(optimization="basic"), Settings(), folder=folder, optimized=path
        )
        return load_structure(os.fspath(path))


def _fix_inputs(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], sizes: Mapping[str, int]) -> None:
    """A batch of one, and the sizes that are given. Shapes that other values declare go, as they may depend on them."""
    del model.graph.value_info[:]
    for value in model.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    stored = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name in stored:
            continue
        dims = value.type.tensor_type.shape.dim
        given = shapes.get(value.name, ())
        if given and len(given) != len(dims):
            raise GraphError(
                f"`shapes`: {'×'.join(map(str, given))} has {len(given)} dimensions, input {printable(value.name)} has "
                f"{len(dims)}"
            )
        for axis, dim in enumerate(dims):
            size = given[axis] if given else sizes.get(dim.dim_param, 0)
            if axis and size and not dim.dim_value:
                dim.Clear()
                dim.dim_value = size
            if axis == 0:
                dim.Clear()
                dim.dim_value = 1
            elif not dim.HasField("dim_value") or dim.dim_value < 1:
                name = printable(value.name)
                raise GraphError(
                    f"input {name}: dimension {axis} is free, and what a network costs depends on it; "
                    "give it by `shapes`, or export the model with fixed sizes (only the batch may be free)"
                )


def architecture_macs(architecture: Architecture, graph: ComputationGraph) -> int:
    """As `model_macs` of an architecture's network for 32 × 32 pixels, from its symbolic graph alone."""
    layers = _MacLayers()
    forward(architecture, layers, (32, 32))
    return sum(math.prod(node.shape or ()) * layers.times.get(node.name, 0) for node in graph.nodes)


class _MacLayers(Outline[Pair]):
    """Layers that count how often each of their weights is multiplied. A value is the height and width of a map.

    Attributes:
        times: by the name of a node; for attention, which has no weights, its multiply-accumulates.
    """

    def __init__(self) -> None:
        self.times: dict[str, int] = {}

    def conv(
        self, name: str, x: Pair, c_in: int, c_out: int, kernel: Pair, stride: int | Pair, padding: int | Pair
    ) -> Pair:
        x = _window(x, kernel, stride, padding)
        self.times[f"{name}.weight"] = x[0] * x[1]
        return x

    def depthwise(
        self, name: str, x: Pair, channels: int, kernel: int, stride: int, padding: int, dilation: int = 1
    ) -> Pair:
        span = dilation * (kernel - 1) + 1
        return self.conv(name, x, 1, channels, (span, span), stride, padding)

    def linear(self, name: str, x: Pair, c_in: int, c_out: int, *, bias: bool = True, n_pixels: int = 1) -> Pair:
        self.times[f"{name}.weight"] = x[0] * x[1]
        return x

    def attention(self, name: str, qkv: Pair, head_width: int) -> Pair:
        # Queries by keys, then weights by values.
        self.times[name] = 2 * (qkv[0] * qkv[1]) ** 2 * head_width * HEADS
        return qkv

    def max_pool(self, name: str, x: Pair, kernel: int, stride: int) -> Pair:
        return _window(x, (kernel, kernel), stride, kernel // 2)

    avg_pool = max_pool

    def strided(self, x: Pair, stride: int) -> Pair:
        return _window(x, (1, 1), stride, 0)

    def squeeze(self, x: Pair) -> Pair:
        return 1, 1

    global_pool = flatten = squeeze


def _window(sides: Pair, kernel: Pair, stride: int | Pair, padding: int | Pair) -> Pair:
    """Height and width of what a sliding window makes of a map."""
    down, right = (stride, stride) if isinstance(stride, int) else stride
    above, beside = (padding, padding) if isinstance(padding, int) else padding
    return (sides[0] + 2 * above - kernel[0]) // down + 1, (sides[1] + 2 * beside - kernel[1]) // right + 1
