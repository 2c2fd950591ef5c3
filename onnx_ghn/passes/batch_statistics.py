"""A copy of a model whose batch norms normalise by the statistics of the batch, and give these out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

__all__ = ["Layer", "use_batch_statistics"]

_MEAN, _VARIANCE = 3, 4  # inputs of BatchNormalization
_AXES_AS_INPUT = 18  # opset from which ReduceMean takes them so
_FREE_BATCH = "onnx_ghn_batch"


@dataclasses.dataclass(frozen=True)
class Layer:
    """One batch norm: the stored names of its statistics, and the outputs that give those of the batch."""

    mean: str
    variance: str
    outputs: tuple[str, str]


def use_batch_statistics(path: Path) -> tuple[list[Layer], dict[str, list[int]]]:
    """Rewrite a model file in place, unless it has no batch norm; its external data stay as they are.

    Also the number of samples in a batch becomes free, where the inputs agree on one: torch exports networks for a
    single image, and a statistic needs more.

    Returns:
        the batch norms found, and the inputs' declared shapes (0 where free).
    """
    proto = onnx.load(path, load_external_data=False)
    graph = proto.graph
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 1)
    stored = _stored_types(graph)
    producers = {output: node for node in graph.node for output in node.output}
    layers: list[Layer] = []
    nodes: list[onnx.NodeProto] = []
    for number, node in enumerate(graph.node):
        origins = [_origin(name, producers, stored) for name in node.input[_MEAN : _VARIANCE + 1]]
        if not _normalises_by_statistics(node) or len(origins) != 2 or None in origins:
            nodes.append(node)
            continue
        prefix = f"onnx_ghn_calibration_{number}"
        made, outputs = _measuring(node.input[0], prefix, opset)
        nodes += made
        for index, (origin, output) in enumerate(zip(origins, outputs, strict=True), start=_MEAN):
            assert origin is not None
            nodes.append(helper.make_node("Cast", [output], [f"{output}_typed"], to=origin[1]))
            node.input[index] = f"{output}_typed"
        nodes.append(node)
        layers.append(Layer(origins[0][0], origins[1][0], outputs))  # type: ignore[index]
    if not layers:
        return [], {}
    del graph.node[:]
    graph.node.extend(nodes)
    for layer in layers:
        graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in layer.outputs)
    del graph.value_info[:]
    shapes = _free_batch(graph)
    onnx.save(proto, path)
    return layers, shapes


def _normalises_by_statistics(node: onnx.NodeProto) -> bool:
    if node.op_type != "BatchNormalization" or node.domain not in ("", "ai.onnx"):
        return False
    values = {attribute.name: attribute.i for attribute in node.attribute}
    # Training mode measures its own; spatial = 0 (opset 7 and 8) has a mean for each pixel.
    return not values.get("training_mode", 0) and values.get("spatial", 1) == 1 and not any(node.output[1:])


def _stored_types(graph: onnx.GraphProto) -> dict[str, int]:
    """Element type of each initializer and constant. A stripped model's statistics are still ConstantOfShape nodes."""
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Constant", "ConstantOfShape") and not node.domain:
            value = next((a.t.data_type for a in node.attribute if a.name == "value"), TensorProto.FLOAT)
            types[node.output[0]] = value
    return types


def _origin(name: str, producers: dict[str, onnx.NodeProto], stored: dict[str, int]) -> tuple[str, int] | None:
    """The stored tensor behind Identity and Cast nodes, and the element type in which it arrives."""
    arrives = 0
    while name not in stored:
        node = producers.get(name)
        if node is None or node.op_type not in ("Identity", "Cast"):
            return None
        if node.op_type == "Cast" and not arrives:
            arrives = next(a.i for a in node.attribute if a.name == "to")
        name = node.input[0]
    return name, arrives or stored[name]


def _measuring(x: str, prefix: str, opset: int) -> tuple[list[onnx.NodeProto], tuple[str, str]]:
    """Nodes that measure mean and variance of each channel of x (N × C × rest), in float32: squares overflow half."""
    made: list[onnx.NodeProto] = []

    def op(kind: str, inputs: list[str], out: str, **attributes: Any) -> str:
        made.append(helper.make_node(kind, inputs, [f"{prefix}_{out}"], **attributes))
        return f"{prefix}_{out}"

    def numbers(values: list[int], out: str) -> str:
        return op("Constant", [], out, value=helper.make_tensor(out, TensorProto.INT64, [len(values)], values))

    def mean_over(value: str, out: str) -> str:
        if opset >= _AXES_AS_INPUT:
            return op("ReduceMean", [value, numbers([0, 2], f"{out}_axes")], out, keepdims=1)
        return op("ReduceMean", [value], out, axes=[0, 2], keepdims=1)

    given = op("Cast", [x], "given", to=TensorProto.FLOAT)
    flat = op("Reshape", [given, numbers([0, 0, -1], "flat_shape")], "flat")  # (N, C, rest)
    mean = mean_over(flat, "mean3")  # (1, C, 1)
    centred = op("Sub", [flat, mean], "centred")
    variance = mean_over(op("Mul", [centred, centred], "squared"), "variance3")
    channels = numbers([-1], "channels")
    return made, (op("Reshape", [mean, channels], "mean"), op("Reshape", [variance, channels], "variance"))


def _free_batch(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """Make the first dimension of all inputs free where they agree on it; the shapes as they were."""
    initializers = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initializers]
    shapes = {v.name: [max(dim.dim_value, 0) for dim in v.type.tensor_type.shape.dim] for v in inputs}
    if len({shape[0] for shape in shapes.values() if shape} - {0}) == 1:
        for value in inputs:
            if shapes[value.name]:
                value.type.tensor_type.shape.dim[0].dim_param = _FREE_BATCH
    return shapes
