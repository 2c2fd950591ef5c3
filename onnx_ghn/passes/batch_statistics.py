"""Batch norms that normalise by the statistics of the batch, and give these out."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir

from onnx_ghn.passes.results import Rewrite

__all__ = ["Layer", "MeasuredModel", "UseBatchStatistics"]

_MEAN, _VARIANCE = 3, 4  # inputs of BatchNormalization
_AXES_AS_INPUT = 18  # opset from which ReduceMean takes them so


@dataclasses.dataclass(frozen=True)
class Layer:
    """One batch norm: the stored names of its statistics, and the outputs that give those of the batch."""

    mean: str
    variance: str
    outputs: tuple[str, str]


@dataclasses.dataclass
class MeasuredModel(Rewrite):
    """The model, and its batch norms."""

    layers: tuple[Layer, ...] = ()


class UseBatchStatistics(ir.passes.InPlacePass):
    """Lets the batch norms of the main graph normalise by the statistics of the batch, which become further outputs.

    A model without a batch norm in inference mode is left as it is. The changes are the names of the new outputs.
    """

    def call(self, model: ir.Model) -> MeasuredModel:
        """Rewrite the model in place."""
        graph = model.graph
        opset = graph.opset_imports.get("", 1)
        layers = []
        for number, node in enumerate(list(graph)):
            if not _normalises_by_statistics(node):
                continue
            origins = [_origin(value) for value in node.inputs[_MEAN : _VARIANCE + 1]]
            if len(origins) != 2 or None in origins:
                continue
            measuring = _Measuring(f"onnx_ghn_calibration_{number}", opset)
            x = node.inputs[0]
            assert x is not None
            measured = measuring.statistics(x)
            names = []
            for index, (origin, output) in enumerate(zip(origins, measured, strict=True), start=_MEAN):
                before = node.inputs[index]
                assert origin is not None
                assert before is not None
                node.replace_input_with(index, measuring.cast(output, origin[1]))
                _drop_if_unused(before)
                names.append(origin[0])
                graph.outputs.append(output)
            graph.insert_before(node, measuring.nodes)
            layers.append(Layer(names[0], names[1], (measured[0].name or "", measured[1].name or "")))
        if not layers:
            return MeasuredModel(model, modified=False)
        changes = tuple(name for layer in layers for name in layer.outputs)
        return MeasuredModel(model, True, changes, tuple(layers))


def _normalises_by_statistics(node: ir.Node) -> bool:
    if node.op_type != "BatchNormalization" or node.domain not in ("", "ai.onnx"):
        return False
    # Training mode measures its own; spatial = 0 (opset 7 and 8) has a mean for each pixel.
    if _int(node, "training_mode", 0) or _int(node, "spatial", 1) != 1:
        return False
    return not any(output.name for output in node.outputs[1:])


def _int(node: ir.Node, name: str, default: int) -> int:
    """An attribute; 0 where a damaged file gives it another type, which onnxruntime then refuses."""
    attribute = node.attributes.get(name)
    if attribute is None:
        return default
    return attribute.as_int() if attribute.type == ir.AttributeType.INT else 0


def _origin(value: ir.Value | None) -> tuple[str, int] | None:
    """The name of the stored tensor behind Identity and Cast nodes, and the element type in which it arrives."""
    arrives = 0
    while value is not None:
        if value.is_initializer() and value.const_value is not None:
            return value.name or "", arrives or int(value.const_value.dtype)
        node = value.producer()
        if node is None or node.domain:
            return None
        if node.op_type in ("Constant", "ConstantOfShape"):
            # A stripped model's statistics are still ConstantOfShape nodes.
            content = node.attributes.get("value")
            stored = ir.DataType.FLOAT
            if content is not None and content.type == ir.AttributeType.TENSOR:
                stored = content.as_tensor().dtype
            return value.name or "", arrives or int(stored)
        if node.op_type not in ("Identity", "Cast"):
            return None
        if node.op_type == "Cast" and not arrives:
            arrives = _int(node, "to", int(ir.DataType.FLOAT))
        value = node.inputs[0]
    return None


def _drop_if_unused(value: ir.Value) -> None:
    """Take out a statistic that nothing reads any more, with what computes it: its values may be lost."""
    node, graph = value.producer(), value.graph
    if value.uses() or value.is_graph_output() or value.is_graph_input() or graph is None:
        return
    if node is None:
        if value.is_initializer():
            del graph.initializers[value.name or ""]
        return
    inputs = [given for given in node.inputs if given is not None]
    graph.remove(node, safe=True)
    for given in inputs:
        _drop_if_unused(given)


class _Measuring:
    """Nodes that measure a value, in order."""

    def __init__(self, prefix: str, opset: int) -> None:
        self.nodes: list[ir.Node] = []
        self._prefix = prefix
        self._opset = opset

    def statistics(self, x: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Mean and variance of each channel of x (N × C × rest), in float32: squares overflow half precision."""
        given = self._op("Cast", [x], "given", ir.AttrInt64("to", ir.DataType.FLOAT))
        flat = self._op("Reshape", [given, self._numbers([0, 0, -1], "flat_shape")], "flat")  # (N, C, rest)
        mean = self._mean_over(flat, "mean3")  # (1, C, 1)
        centred = self._op("Sub", [flat, mean], "centred")
        variance = self._mean_over(self._op("Mul", [centred, centred], "squared"), "variance3")
        channels = self._numbers([-1], "channels")
        measured = self._op("Reshape", [mean, channels], "mean"), self._op("Reshape", [variance, channels], "variance")
        for value in measured:
            value.type = ir.TensorType(ir.DataType.FLOAT)
        return measured

    def cast(self, value: ir.Value, dtype: int) -> ir.Value:
        """The value in another type."""
        name = (value.name or "").removeprefix(f"{self._prefix}_")
        return self._op("Cast", [value], f"{name}_typed", ir.AttrInt64("to", dtype))

    def _op(self, kind: str, inputs: list[ir.Value], out: str, *attributes: ir.Attr) -> ir.Value:
        node = ir.node(kind, inputs, attributes={attribute.name: attribute for attribute in attributes})
        node.outputs[0].name = f"{self._prefix}_{out}"
        self.nodes.append(node)
        return node.outputs[0]

    def _numbers(self, values: list[int], out: str) -> ir.Value:
        return self._op("Constant", [], out, ir.AttrTensor("value", ir.tensor(np.array(values, np.int64), name=out)))

    def _mean_over(self, value: ir.Value, out: str) -> ir.Value:
        keep = ir.AttrInt64("keepdims", 1)
        if self._opset >= _AXES_AS_INPUT:
            return self._op("ReduceMean", [value, self._numbers([0, 2], f"{out}_axes")], out, keep)
        return self._op("ReduceMean", [value], out, ir.AttrInt64s("axes", [0, 2]), keep)
