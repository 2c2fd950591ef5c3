"""Constants that a runtime could not compute: some bytes of a file can stand for more than any memory holds."""

from __future__ import annotations

import onnx_ir as ir

from onnx_ghn.errors import RuntimeFailure, printable
from onnx_ghn.limits import gib, memory_bytes
from onnx_ghn.onnx_io.inputs_read import values_read
from onnx_ghn.onnx_io.view_operators import VIEW_OPERATORS

__all__ = ["check_joined_constants"]

_SAME_BYTES = VIEW_OPERATORS - {"Cast"}


def check_joined_constants(model: ir.Model) -> None:
    """Refuse a model that joins constants, on the way to its outputs, to more than the memory of this machine.

    onnxruntime would join them for as long as there is memory, and fail then, on a machine that has none left. Only
    what is certain is refused: joined constants, and what hands them on.

    Raises:
        RuntimeFailure: names the operator and the size.
    """
    limit = memory_bytes()
    n_bytes: dict[ir.Value, int] = {}
    needed: set[ir.Value] | None = None
    for node in model.graph:
        known = _known(node, n_bytes)
        if known is None or not node.outputs:
            continue
        n_bytes[node.outputs[0]] = known
        if known <= limit:
            continue
        needed = values_read(model) if needed is None else needed
        if node.outputs[0] in needed:
            name = printable(node.name or node.outputs[0].name or "")
            raise RuntimeFailure(
                f"operator {name} ({node.op_type}) joins constants to {gib(known)}, more than the memory of this "
                "machine"
            )


def _known(node: ir.Node, n_bytes: dict[ir.Value, int]) -> int | None:
    """Bytes of a node's first output; None where they are not known from constants alone."""
    if node.op_type == "Constant" and not node.inputs:
        value = node.attributes.get("value")
        return _bytes_of(value.as_tensor()) if value is not None and value.type == ir.AttributeType.TENSOR else None
    sizes = [None if value is None else _stored(value, n_bytes) for value in node.inputs]
    if node.op_type == "Concat" and sizes:
        return None if None in sizes else sum(size for size in sizes if size is not None)
    return sizes[0] if node.op_type in _SAME_BYTES and sizes else None


def _stored(value: ir.Value, n_bytes: dict[ir.Value, int]) -> int | None:
    if value in n_bytes:
        return n_bytes[value]
    return _bytes_of(value.const_value if value.producer() is None else None)


def _bytes_of(tensor: ir.TensorProtocol | None) -> int | None:
    if tensor is None or tensor.dtype == ir.DataType.STRING:  # texts may be of any length
        return None
    return tensor.nbytes
