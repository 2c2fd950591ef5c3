"""How often the bodies of Loop, If and Scan run, as far as a graph says so without running it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["body_turns"]

#: Where a graph lies: the first output of the node that has it as a body, and the attribute, from the outside in.
_Scope = tuple[tuple[str, str], ...]
_Shapes = Mapping[str, tuple[tuple[int, ...], int]]
_Values = Mapping[str, object]
_SCAN_OF_NOW = 9  # the opset before had a batch axis


def body_turns(proto: onnx.ModelProto, shapes: _Shapes) -> dict[_Scope, int | None]:
    """Turns of each body in a run of the model, those of what lies around it among them; None where only a run tells.

    A branch of an If counts as one turn.

    Args:
        proto: the model, without external data.
        shapes: of values, with their element types, by name.
    """
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), _SCAN_OF_NOW)
    return dict(_turns(proto.graph, (), 1, {}, shapes, opset))


def _turns(
    graph: onnx.GraphProto, scope: _Scope, times: int | None, outer: _Values, shapes: _Shapes, opset: int
) -> Iterator[tuple[_Scope, int | None]]:
    known = {**outer, **_constants(graph)}
    for node in graph.node:
        for attribute in node.attribute:
            for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                inner = (*scope, (node.output[0] if node.output else node.name, attribute.name))
                own = _own_turns(node, body, known, shapes, opset)
                total = None if times is None or own is None else times * own
                yield inner, total
                yield from _turns(body, inner, total, known, shapes, opset)


def _own_turns(node: onnx.NodeProto, body: onnx.GraphProto, known: _Values, shapes: _Shapes, opset: int) -> int | None:
    if node.op_type == "If":
        return 1
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute if not entry.HasField("g")}
    if node.op_type == "Scan" and opset >= _SCAN_OF_NOW:
        number = int(attributes["num_scan_inputs"])
        axes: Sequence[int] = attributes.get("scan_input_axes", [0] * number)
        name = node.input[-number]
        return shapes[name][0][axes[0]] if name in shapes else None
    if node.op_type != "Loop":
        return None
    at_most, go_on = (node.input[i] if i < len(node.input) else "" for i in (0, 1))
    if at_most not in known or (go_on and not known.get(go_on)):
        return None
    count = known[at_most]
    return max(int(count), 0) if isinstance(count, int) and _goes_on(body, known) else None


def _goes_on(body: onnx.GraphProto, outer: _Values) -> bool:
    """Whether the body of a Loop hands on that it goes on, or says so itself."""
    makers = {name: node for node in body.node for name in node.output}
    name = body.output[0].name
    while name in makers and makers[name].op_type == "Identity":
        name = makers[name].input[0]
    return name == body.input[1].name or bool({**outer, **_constants(body)}.get(name))


def _constants(graph: onnx.GraphProto) -> dict[str, int | bool]:
    """Single whole numbers and truths that a graph stores."""
    stored = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant":
            stored += [(node.output[0], entry.t) for entry in node.attribute if entry.name == "value"]
    kinds = (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
    single = [(name, one) for name, one in stored if one.data_type in kinds and math.prod(one.dims) == 1]
    return {
        name: np.asarray(numpy_helper.to_array(one)).item()
        for name, one in single
        if one.data_location != onnx.TensorProto.EXTERNAL
    }
