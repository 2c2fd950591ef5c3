"""Nodes that measure the mean and the variance of each channel of a value, and the marks that lead back to the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from onnx_ghn.passes.results import Rewrite

__all__ = ["Layer", "MeasuredModel", "Measuring", "drop_if_unused", "mark_stored", "stored_name"]

_MARK = "onnx_ghn_stored"
_AXES_AS_INPUT = 18  # opset from which ReduceMean takes them so, and ReduceProd
_ENDS_AS_INPUT = 10  # opset from which Slice takes them so


@dataclasses.dataclass(frozen=True)
class Layer:
    """One batch norm: the stored names of its statistics, and the outputs that give those of the batch.

    Attributes:
        n_channels: the size of the statistics where the outputs hold them once for each image (an instance norm).
    """

    mean: str
    variance: str
    outputs: tuple[str, str]
    n_channels: int | None = None


@dataclasses.dataclass
class MeasuredModel(Rewrite):
    """The model, and its batch norms."""

    layers: tuple[Layer, ...] = ()


def mark_stored(model: ir.Model, names: Collection[str]) -> None:
    """Note on values the names under which their tensors are stored: inlining functions gives them other ones."""
    from onnx_ghn.onnx_io import stored_tensors

    if names:
        for name, stored in stored_tensors(model).items():
            if name in names:
                stored.value.meta[_MARK] = name


def stored_name(value: ir.Value) -> str:
    """The name under which the tensor of a value is stored."""
    name: str = value.meta.get(_MARK, value.name or "")
    return name


def drop_if_unused(value: ir.Value) -> None:
    """Take out a value that nothing reads any more, with what computes it alone; a statistic's values may be lost."""
    node, graph = value.producer(), value.graph
    if value.uses() or value.is_graph_output() or value.is_graph_input() or graph is None:
        return
    if node is None:
        if value.is_initializer():
            del graph.initializers[value.name or ""]
        return
    if any(output.uses() or output.is_graph_output() for output in node.outputs):
        return
    inputs = [given for given in node.inputs if given is not None]
    graph.remove(node, safe=True)
    for given in inputs:
        drop_if_unused(given)


class Measuring:
    """Nodes that measure a value, in order."""

    def __init__(self, prefix: str, opset: int) -> None:
        self.nodes: list[ir.Node] = []
        self._prefix = prefix
        self._opset = opset

    def statistics(self, x: ir.Value, axis: int | None = None, width: int = 0) -> tuple[ir.Value, ir.Value]:
        """Mean and variance of each channel, (C,), in float32: squares overflow half precision.

        Args:
            x: N × C × rest where there is no axis, any shape otherwise.
            axis: of the channels, counted from the last (-1).
            width: the number of channels, where an axis is given.
        """
        given = self.op("Cast", [x], "given", ir.AttrInt64("to", ir.DataType.FLOAT))
        shape = self._numbers([0, 0, -1], "flat_shape") if axis is None else self._flat_shape(given, axis, width)
        flat = self.op("Reshape", [given, shape], "flat")  # (N, C, rest)
        mean = self._mean_over(flat, "mean3")  # (1, C, 1)
        centred = self.op("Sub", [flat, mean], "centred")
        variance = self._mean_over(self.op("Mul", [centred, centred], "squared"), "variance3")
        channels = self._numbers([-1], "channels")
        measured = self.op("Reshape", [mean, channels], "mean"), self.op("Reshape", [variance, channels], "variance")
        for value in measured:
            value.type = ir.TensorType(ir.DataType.FLOAT)
        return measured

    def cast(self, value: ir.Value, dtype: int) -> ir.Value:
        """The value in another type."""
        name = (value.name or "").removeprefix(f"{self._prefix}_")
        return self.op("Cast", [value], f"{name}_typed", ir.AttrInt64("to", dtype))

    def shaped(self, value: ir.Value, shape: list[int]) -> ir.Value:
        """The value in another shape."""
        name = (value.name or "").removeprefix(f"{self._prefix}_")
        return self.op("Reshape", [value, self._numbers(shape, f"{name}_as")], f"{name}_shaped")

    def op(self, kind: str, inputs: list[ir.Value], out: str, *attributes: ir.Attr) -> ir.Value:
        """The output of a new node."""
        node = ir.node(kind, inputs, attributes={attribute.name: attribute for attribute in attributes})
        node.outputs[0].name = f"{self._prefix}_{out}"
        self.nodes.append(node)
        return node.outputs[0]

    def copied(self, node: ir.Node, inputs: list[ir.Value | None]) -> ir.Node:
        """A node like another one that reads other values."""
        twin = ir.node(
            node.op_type,
            inputs,
            attributes=dict(node.attributes),
            domain=node.domain,
            num_outputs=len(node.outputs),
        )
        for i, output in enumerate(twin.outputs):
            output.name = f"{self._prefix}_copy_{len(self.nodes)}_{i}"
        self.nodes.append(twin)
        return twin

    def _flat_shape(self, x: ir.Value, axis: int, width: int) -> ir.Value:
        """(-1, C, product of the dimensions behind the channels)."""
        if axis == -1:
            return self._numbers([-1, width, 1], "flat_shape")
        shape = self.op("Shape", [x], "shape")
        first, end = axis + 1, np.iinfo(np.int64).max
        if self._opset >= _ENDS_AS_INPUT:
            behind = self.op("Slice", [shape, self._numbers([first], "starts"), self._numbers([end], "ends")], "behind")
        else:
            behind = self.op("Slice", [shape], "behind", ir.AttrInt64s("starts", [first]), ir.AttrInt64s("ends", [end]))
        size = self.op("ReduceProd", [behind], "size", ir.AttrInt64("keepdims", 1))  # over all axes
        return self.op("Concat", [self._numbers([-1, width], "leading"), size], "flat_shape", ir.AttrInt64("axis", 0))

    def _numbers(self, values: list[int], out: str) -> ir.Value:
        return self.op("Constant", [], out, ir.AttrTensor("value", ir.tensor(np.array(values, np.int64), name=out)))

    def _mean_over(self, value: ir.Value, out: str) -> ir.Value:
        keep = ir.AttrInt64("keepdims", 1)
        if self._opset >= _AXES_AS_INPUT:
            return self.op("ReduceMean", [value, self._numbers([0, 2], f"{out}_axes")], out, keep)
        return self.op("ReduceMean", [value], out, ir.AttrInt64s("axes", [0, 2]), keep)
