"""Batch norms that normalise by the statistics of the batch, and give these out."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from onnx_ghn.onnx_io.attributes import attribute_tensor
from onnx_ghn.passes.measuring import Layer, MeasuredModel, Measuring, drop_if_unused, stored_name

__all__ = ["UseBatchStatistics"]

_REPEATING = frozenset({"Tile", "Expand"})
_MEAN, _VARIANCE = 3, 4  # inputs of BatchNormalization


class UseBatchStatistics(ir.passes.InPlacePass):
    """Lets the batch norms of the main graph normalise by the statistics of the batch, which become further outputs.

    A model without a batch norm in inference mode is left as it is. The changes are the names of the new outputs.

    Args:
        left: stored names of statistics whose norms stay as they are.
    """

    def __init__(self, left: Collection[str] = ()) -> None:
        super().__init__()
        self._left = left

    def call(self, model: ir.Model) -> MeasuredModel:
        """Rewrite the model in place."""
        graph = model.graph
        opset = graph.opset_imports.get("", 1)
        layers = []
        for number, node in enumerate(list(graph)):
            if not _normalises_by_statistics(node):
                continue
            origins = [_origin(value) for value in node.inputs[_MEAN : _VARIANCE + 1]]
            if len(origins) != 2 or None in origins or any(o is not None and o.name in self._left for o in origins):
                continue
            measuring = Measuring(f"onnx_ghn_calibration_{number}", opset)
            x = node.inputs[0]
            assert x is not None
            measured = measuring.statistics(x)
            names = []
            for index, (origin, output) in enumerate(zip(origins, measured, strict=True), start=_MEAN):
                before = node.inputs[index]
                assert origin is not None
                assert before is not None
                node.replace_input_with(index, measuring.cast(output, origin.dtype))
                drop_if_unused(before)
                names.append(origin.name)
                graph.outputs.append(output)
            graph.insert_before(node, measuring.nodes)
            outputs = (measured[0].name or "", measured[1].name or "")
            layers.append(Layer(names[0], names[1], outputs, origins[0].n_repeated if origins[0] else None))
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


@dataclasses.dataclass(frozen=True)
class _Origin:
    """The stored tensor behind a statistic: its name, the type in which it arrives, its size if it is repeated."""

    name: str
    dtype: int
    n_repeated: int | None = None


def _origin(value: ir.Value | None) -> _Origin | None:
    """What is stored behind the Identity, Cast, Tile and Expand nodes that a statistic comes through."""
    arrives, repeated = 0, False
    while value is not None:
        if value.is_initializer() and value.const_value is not None:
            size = int(np.prod(value.const_value.shape.numpy(), dtype=np.int64)) if repeated else None
            return _Origin(stored_name(value), arrives or int(value.const_value.dtype), size)
        node = value.producer()
        if node is None or node.domain:
            return None
        if node.op_type in ("Constant", "ConstantOfShape") and not repeated:
            # A stripped model's statistics are still ConstantOfShape nodes.
            content = node.attributes.get("value")
            stored = ir.DataType.FLOAT
            if content is not None and content.type == ir.AttributeType.TENSOR:
                stored = attribute_tensor(content).dtype
            return _Origin(stored_name(value), arrives or int(stored))
        if node.op_type not in ("Identity", "Cast", *_REPEATING):
            return None
        repeated = repeated or node.op_type in _REPEATING
        if node.op_type == "Cast" and not arrives:
            arrives = _int(node, "to", int(ir.DataType.FLOAT))
        value = node.inputs[0]
    return None
