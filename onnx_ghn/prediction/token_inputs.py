"""How many numbers an integer input of a model may be: as many as the tables that are looked up by it have rows."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["table_rows"]

_VIEWS = frozenset({"Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"})
#: From tokens and segments, as com.microsoft's fused operator takes them, to the places of their tables.
_FUSED = {0: 2, 1: 4}


def table_rows(model: ir.Model) -> dict[str, int]:
    """Rows of the smallest table whose rows an input numbers, by the name of the input.

    Inputs that number no rows of a stored table (masks, lengths) are left out.
    """
    found: dict[str, int] = {}
    for value in model.graph.inputs:
        rows = [n for n in _rows(value) if n > 0]
        if value.name and rows:
            found[value.name] = min(rows)
    return found


def _rows(value: ir.Value) -> list[int]:
    rows, pending, seen = [], [value], {value}
    while pending:
        for use in pending.pop().uses():
            node = use.node
            if node.op_type in _VIEWS and use.idx == 0:
                pending += [each for each in node.outputs[:1] if each not in seen]
                seen.update(node.outputs[:1])
            elif node.op_type == "Gather" and use.idx == 1 and node.inputs[0] is not None:
                axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
                rows += _length(node.inputs[0], axis)
            elif node.op_type == "EmbedLayerNormalization" and use.idx in _FUSED:
                place = _FUSED[use.idx]
                table = node.inputs[place] if place < len(node.inputs) else None
                rows += _length(table, 0) if table is not None else []
    return rows


def _length(table: ir.Value, axis: int) -> list[int]:
    """The length of an axis of a stored tensor, be it read through a cast or dequantised."""
    while (node := table.producer()) is not None and node.op_type in ("Cast", "DequantizeLinear", "Identity"):
        before = node.inputs[0]
        assert before is not None
        table = before
    shape = table.const_value.shape if table.const_value is not None else None
    size = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
    return [size] if isinstance(size, int) else []
