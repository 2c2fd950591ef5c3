"""Shapes of the values of a main graph, inferred by onnx without the weights."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from onnx_ghn.onnx_io.stored import StoredTensor

if TYPE_CHECKING:
    import onnx

__all__ = ["Shape", "known_shapes"]

logger = logging.getLogger(__name__)

#: Sizes; None for a dimension that is free or unknown.
Shape = tuple[int | None, ...]

_SMALL = 64  # elements of integer tensors that stay, as shapes and axes
#: Where AttributeProto holds the values of plain attributes.
_FIELDS = {
    ir.AttributeType.INT: "i",
    ir.AttributeType.INTS: "ints",
    ir.AttributeType.FLOAT: "f",
    ir.AttributeType.FLOATS: "floats",
    ir.AttributeType.STRING: "s",
    ir.AttributeType.STRINGS: "strings",
}


def known_shapes(model: ir.Model, stored: dict[str, StoredTensor]) -> dict[str, Shape]:
    """Shapes by the name of the value, as far as the inputs and the operators of the main graph tell.

    What the file says of inner values is left aside, as it may be stale. Bodies of If, Loop and Scan, and functions,
    are not entered: they may multiply.

    Args:
        stored: the model's stored tensors.
    """
    import onnx
    from onnx import shape_inference

    inputs, settings = [], []
    known: dict[str, Shape] = {}
    constants = set()
    for tensor in stored.values():
        name = tensor.value.name or ""
        if tensor.site.graph is not model.graph or not name or tensor.is_string:
            continue
        if tensor.node is not None:
            constants.add(tensor.node)
        known[name] = tensor.shape
        if _is_setting(tensor):
            kept = np.ascontiguousarray(tensor.numpy()).tobytes()
            settings.append(onnx.TensorProto(name=name, data_type=int(tensor.dtype), dims=tensor.shape, raw_data=kept))
        else:
            inputs.append(_declared(name, int(tensor.dtype), tensor.shape))
    for value in model.graph.inputs:
        name = value.name or ""
        if name in known or value.dtype is None or value.shape is None:
            continue
        known[name] = tuple(dim if isinstance(dim, int) and dim > 0 else None for dim in value.shape)
        inputs.append(_declared(name, int(value.dtype), known[name]))
    nodes = [_plain(node) for node in model.graph if node not in constants]
    graph = onnx.GraphProto(name="shapes", node=nodes, input=inputs, initializer=settings)
    opsets = [onnx.OperatorSetIdProto(domain=domain, version=number) for domain, number in model.opset_imports.items()]
    proto = onnx.ModelProto(ir_version=max(model.ir_version, 4), graph=graph, opset_import=opsets)
    try:
        inferred = shape_inference.infer_shapes(proto)
    except (shape_inference.InferenceError, RuntimeError, ValueError) as error:
        logger.debug("shapes are not checked, as onnx cannot infer them: %s", error)
        return known
    for entry in inferred.graph.value_info:
        if entry.type.HasField("tensor_type") and entry.type.tensor_type.HasField("shape"):
            dims = entry.type.tensor_type.shape.dim
            known.setdefault(entry.name, tuple(d.dim_value if d.HasField("dim_value") else None for d in dims))
    return known


def _is_setting(tensor: StoredTensor) -> bool:
    """A small tensor of integers, whose values shapes may depend on."""
    return (
        tensor.dtype.is_integer()
        and math.prod(tensor.shape) <= _SMALL
        and not tensor.is_sparse
        and not tensor.is_absent
        and tensor.dtype.bitwidth >= 8
    )


def _declared(name: str, dtype: int, shape: Shape) -> onnx.ValueInfoProto:
    import onnx

    dims = [
        onnx.TensorShapeProto.Dimension() if dim is None else onnx.TensorShapeProto.Dimension(dim_value=dim)
        for dim in shape
    ]
    tensor = onnx.TypeProto.Tensor(elem_type=dtype, shape=onnx.TensorShapeProto(dim=dims))
    return onnx.ValueInfoProto(name=name, type=onnx.TypeProto(tensor_type=tensor))


def _plain(node: ir.Node) -> onnx.NodeProto:
    """The node with its plain attributes; without them all, and in no known domain, where it has a body."""
    import onnx

    attributes: list[onnx.AttributeProto] = []
    domain = node.domain
    for attribute in node.attributes.values():
        field = _FIELDS.get(attribute.type)
        if field is None or attribute.is_ref():
            attributes, domain = [], "onnx_ghn.unknown"
            break
        made = onnx.AttributeProto(name=attribute.name, type=attribute.type.name)
        value = attribute.value
        if field == "s":
            made.s = value.encode() if isinstance(value, str) else value
        elif field in ("f", "i"):
            setattr(made, field, value)
        elif field == "strings":
            made.strings.extend(one.encode() if isinstance(one, str) else one for one in value)
        else:
            getattr(made, field).extend(value)
        attributes.append(made)
    return onnx.NodeProto(
        op_type=node.op_type,
        domain=domain,
        input=[(value.name or "") if value is not None else "" for value in node.inputs],
        output=[value.name or "" for value in node.outputs],
        attribute=attributes,
    )
