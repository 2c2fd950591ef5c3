"""Which stored tensors a gradient reaches, from the graph alone.

Roundings, comparisons and choices have a gradient of zero wherever they have one. Networks with such operators (behind
a quantisation, between spikes) are trained by a straight-through estimator or a surrogate, which no file says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import onnx_ir as ir

__all__ = ["Blocked", "find_blocked"]

_DEFAULT_DOMAINS = ("", "ai.onnx")
_STEPS = frozenset(
    {
        "And", "ArgMax", "ArgMin", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil",
        "DynamicQuantizeLinear", "Equal", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "IsInf", "IsNaN", "Less",
        "LessOrEqual", "NonMaxSuppression", "NonZero", "Not",
        "OneHot", "Or", "QuantizeLinear", "Round", "Shape", "Sign", "Size", "Unique", "Xor",
    }
)  # fmt: skip
#: Inputs that choose, and are not passed on.
_CHOOSING = {
    ("Where", 0),
    ("Gather", 1),
    ("GatherElements", 1),
    ("GatherND", 1),
    ("ScatterND", 1),
    ("ScatterElements", 1),
}
_CHOOSING |= {("TopK", 1), ("Expand", 1), ("Reshape", 1), ("Tile", 1), ("Pad", 1), ("DequantizeLinear", 0)}


@dataclasses.dataclass(frozen=True)
class Blocked:
    """A stored tensor that no gradient reaches, and the operator that stops it."""

    name: str
    op_type: str
    node: str


def find_blocked(model: ir.Model, names: Collection[str]) -> list[Blocked]:
    """Initializers of `model` that lead to its outputs only through operators without a gradient.

    Args:
        names: of the initializers that are asked about.
    """
    reached: set[ir.Value] = set()
    waiting = list(model.graph.outputs)
    while waiting:
        value = waiting.pop()
        if value in reached:
            continue
        reached.add(value)
        node = value.producer()
        if node is None or _stops(node, value):
            continue
        for index, given in enumerate(node.inputs):
            if given is not None and (node.op_type, index) not in _CHOOSING:
                waiting.append(given)
        waiting.extend(_of_bodies(node))
    blocked = [name for name in names if model.graph.initializers[name] not in reached]
    return [Blocked(name, *_first_stop(model.graph.initializers[name])) for name in blocked]


def _of_bodies(node: ir.Node) -> list[ir.Value]:
    """What the bodies of a Loop, an If or a Scan give and read."""
    graphs = [g for a in node.attributes.values() for g in ([a.as_graph()] if a.type == ir.AttributeType.GRAPH else [])]
    return [value for graph in graphs for value in graph.outputs]


def _stops(node: ir.Node, value: ir.Value) -> bool:
    if node.domain not in _DEFAULT_DOMAINS:
        return False
    if node.op_type == "Cast":
        to = ir.DataType(node.attributes["to"].as_int())
        given = node.inputs[0]
        return not to.is_floating_point() or (
            given is not None and given.dtype is not None and not given.dtype.is_floating_point()
        )
    return node.op_type in _STEPS or (node.op_type == "TopK" and value is node.outputs[1])


def _first_stop(value: ir.Value) -> tuple[str, str]:
    """Forwards, the first operator that stops the gradient of a tensor: its type and name."""
    waiting, seen = [value], {value}
    while waiting:
        current = waiting.pop(0)
        for use in current.uses():
            if (use.node.op_type, use.idx) in _CHOOSING or any(_stops(use.node, output) for output in use.node.outputs):
                return use.node.op_type, use.node.name or (use.node.outputs[0].name or "")
            fresh = [output for output in use.node.outputs if output not in seen]
            seen.update(fresh)
            waiting += fresh
    return "an operator", ""
