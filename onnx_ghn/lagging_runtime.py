"""Models of an opset that onnxruntime does not load yet, declared lower where they use nothing new."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from onnx_ghn.errors import RuntimeFailure

if TYPE_CHECKING:
    import onnx

__all__ = ["declared_lower"]

# What onnxruntime says of a model that is newer than itself, with the newest that it loads.
_OPSET = re.compile(r"Current official support for domain ai\.onnx is till opset (\d+)")
_IR_VERSION = re.compile(r"Unsupported model IR version: \d+, max supported IR version: (\d+)")


def declared_lower(source: str | bytes, refusal: str) -> bytes | None:
    """The model as one of the newest opset or IR version that onnxruntime loads; external data stay where they are.

    Args:
        source: a path, or the bytes of a file.
        refusal: what onnxruntime said.

    Returns:
        None where it refuses for another reason.

    Raises:
        RuntimeFailure: operators, inputs or attributes of newer opsets are used.
    """
    ir_version, opset = _IR_VERSION.search(refusal), _OPSET.search(refusal)
    if ir_version is None and opset is None:
        return None
    import onnx

    if isinstance(source, bytes):
        model = onnx.load_model_from_string(source)
    else:
        model = onnx.load(source, load_external_data=False)
    if ir_version is not None:
        model.ir_version = min(model.ir_version, int(ir_version[1]))
    if opset is not None:
        newest = int(opset[1])
        bodies = [(model.opset_import, model.graph.node), *((one.opset_import, one.node) for one in model.functions)]
        for imports, nodes in bodies:
            unknown = next((node for node in _all_nodes(nodes) if not _is_known(node, newest)), None)
            if unknown is not None:
                raise RuntimeFailure(
                    f"onnxruntime loads opsets up to {newest}, and node {unknown.name!r} ({unknown.op_type}) is of a "
                    "newer one; update onnxruntime"
                )
            for entry in imports:
                if entry.domain in ("", "ai.onnx"):
                    entry.version = min(entry.version, newest)
    data: bytes = model.SerializeToString()
    return data


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _all_nodes(graph.node)


def _is_known(node: onnx.NodeProto, opset: int) -> bool:
    """Whether an operator, with its inputs and attributes, is in that opset."""
    from onnx import defs

    if node.domain not in ("", "ai.onnx"):
        return True
    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return False
    known = all(attribute.name in schema.attributes for attribute in node.attribute)
    return known and len(node.input) <= schema.max_input and len(node.output) <= schema.max_output
