"""How large the integers of an input may be: as many as the stored tables have rows that they number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onnx_ghn.onnx_io.stored import stored_tensors
from onnx_ghn.onnx_io.view_operators import VIEW_OPERATORS

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["input_rows", "rows_numbered"]

#: Operators that hand indices on as they are.
_PASSING = VIEW_OPERATORS | {"Slice", "Expand"}
#: Operators that give the rows of a table in their order.
_ROWS_KEPT = frozenset({"Identity", "Cast", "DequantizeLinear"})
#: From tokens and segments, as com.microsoft's fused operator takes them, to the places of their tables.
_FUSED = {0: 2, 1: 4}


def input_rows(model: ir.Model) -> dict[str, int]:
    """Rows of the smallest stored table that an integer input numbers, by the name of the input.

    Inputs that number no rows of a table (masks, lengths) are left out.
    """
    integers = [value for value in model.graph.inputs if value.dtype is not None and value.dtype.is_integer()]
    if not integers:
        return {}
    tables = {entry.value: entry.shape for entry in stored_tensors(model).values()}
    rows = {value.name or "": rows_numbered(value, tables) for value in integers}
    return {name: n for name, n in rows.items() if n}


def rows_numbered(value: ir.Value, tables: Mapping[ir.Value, Sequence[int]]) -> int | None:
    """Rows of the smallest table that the values number, directly or through operators that only move them.

    Args:
        tables: shapes of the stored tensors.
    """
    waiting, seen, found = [value], {value}, []
    while waiting:
        for use in waiting.pop().uses():
            node = use.node
            if node.op_type in ("Gather", "GatherElements") and use.idx == 1:
                axis = node.attributes.get("axis")
                found += _length(node.inputs[0], axis.as_int() if axis is not None else 0, tables)
            elif node.op_type == "EmbedLayerNormalization" and use.idx in _FUSED:
                place = _FUSED[use.idx]
                found += _length(node.inputs[place] if place < len(node.inputs) else None, 0, tables)
            elif node.op_type in _PASSING and use.idx == 0 and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                waiting.append(node.outputs[0])
    return min(found, default=None)


def _length(table: ir.Value | None, axis: int, tables: Mapping[ir.Value, Sequence[int]]) -> list[int]:
    """The length of an axis of a stored table, be it read through a cast or dequantised; [] where it is none."""
    while table is not None and table not in tables:
        node = table.producer()
        table = node.inputs[0] if node is not None and node.op_type in _ROWS_KEPT else None
    shape = tables[table] if table is not None else ()
    return [shape[axis]] if -len(shape) <= axis < len(shape) and shape[axis] > 0 else []
