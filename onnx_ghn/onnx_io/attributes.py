"""What attributes of nodes hold."""

from __future__ import annotations

import onnx_ir as ir

from onnx_ghn.errors import ModelReadError

__all__ = ["attribute_tensor"]


def attribute_tensor(attribute: ir.Attr) -> ir.TensorProtocol:
    """The tensor of an attribute.

    As `ir.Attr.as_tensor`, which takes a hundred times as long: it asks for each method of the protocol.

    Raises:
        ModelReadError: it holds something else.
    """
    if attribute.type != ir.AttributeType.TENSOR:
        raise ModelReadError(
            f"attribute {attribute.name!r} is of type {attribute.type}, not a tensor; check the model with onnx.checker"
        )
    tensor: ir.TensorProtocol = attribute.value
    return tensor
