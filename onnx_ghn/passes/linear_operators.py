"""Operators that are linear in a stored weight: which they are, and what stands around them in a graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import onnx_ir as ir

from onnx_ghn.onnx_io.attributes import attribute_tensor
from onnx_ghn.onnx_io.view_operators import VIEW_OPERATORS

__all__ = [
    "BIAS",
    "FLOATS",
    "Linear",
    "computed_on_inputs",
    "element_type",
    "is_normalised",
    "linear_operators",
    "own_bias",
    "read_by_these_alone",
    "unsquashed",
]

#: Operators that are linear in a weight, and the inputs where it may stand.
_LINEAR = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "DeformConv": (1,),
    "Gemm": (1, 0),
    "MatMul": (1, 0),
    "FusedConv": (1,),
    "FusedGemm": (1, 0),
    "FusedMatMul": (1, 0),
    "Gather": (0,),
}
#: Which of their inputs is a bias.
BIAS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "DeformConv": 3}
#: What makes the scale of its input immaterial.
_NORMS = frozenset(
    {"BatchNormalization", "LayerNormalization", "GroupNormalization", "InstanceNormalization", "RMSNormalization"}
) | {"SimplifiedLayerNormalization", "MeanVarianceNormalization", "LpNormalization"}
#: What gives values of one size, however large its input is.
_SQUASHES = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Tanh"})
FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_SHAPES = frozenset({"Shape", "Size"})


@dataclasses.dataclass(frozen=True)
class Linear:
    """An operator that is linear in a stored weight."""

    number: int  # in the order of the graph
    node: ir.Node
    place: int  # of the weight among its inputs
    weight: ir.Value  # as it is stored


def linear_operators(graph: ir.Graph) -> Iterator[Linear]:
    """Those of the main graph, in its order. Their numbers count them alone."""
    number = 0
    for node in list(graph):
        for place in _LINEAR.get(node.op_type, ()):
            weight = _stored(node.inputs[place]) if place < len(node.inputs) else None
            if weight is not None:
                yield Linear(number, node, place, weight)
                number += 1
                break


def computed_on_inputs(graph: ir.Graph) -> set[ir.Value]:
    """Values that depend on what the model is given, and not on its shape alone."""
    found = {value for value in graph.inputs if value.name not in graph.initializers}
    for node in graph:
        has_graph = any(
            attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
            for attribute in node.attributes.values()
        )
        reads = any(value in found for value in node.inputs) and node.op_type not in _SHAPES
        if reads or has_graph:  # a body may read whatever is outside it
            found.update(node.outputs)
    return found


def _stored(value: ir.Value | None) -> ir.Value | None:
    """The stored float tensor of which a value is a view."""
    while value is not None:
        if value.is_initializer() and value.const_value is not None:
            return value if value.const_value.dtype in FLOATS else None
        node = value.producer()
        if node is None or node.domain:
            return None
        if node.op_type in ("Constant", "ConstantOfShape"):
            return value
        value = _seen_through(node)
    return None


def _seen_through(node: ir.Node) -> ir.Value | None:
    """What an operator gives as it is, seen otherwise or multiplied by a number; None for any other operator."""
    if node.op_type in VIEW_OPERATORS:
        return node.inputs[0]
    if node.op_type in ("Mul", "Div") and len(node.inputs) == 2:
        first, second = node.inputs
        if _is_number(second):
            return first
        if node.op_type == "Mul" and _is_number(first):
            return second
    return None


def _is_number(value: ir.Value | None) -> bool:
    """Whether a value is stored, and of one element."""
    if value is None:
        return False
    node = value.producer()
    if node is None:
        tensor = value.const_value if value.is_initializer() else None
    else:
        attribute = node.attributes.get("value") if node.op_type == "Constant" and not node.domain else None
        tensor = attribute_tensor(attribute) if attribute is not None else None
        if attribute is None and node.op_type == "Constant" and "value_float" in node.attributes:
            return True
    return tensor is not None and tensor.size == 1


def element_type(value: ir.Value) -> ir.DataType:
    """That of a view of what is stored."""
    while (node := value.producer()) is not None:
        if node.op_type == "Cast":
            return ir.DataType(node.attributes["to"].as_int())
        if node.op_type in ("Constant", "ConstantOfShape"):
            attribute = node.attributes.get("value")
            return ir.DataType.FLOAT if attribute is None else attribute_tensor(attribute).dtype
        before = _seen_through(node)
        assert before is not None  # it is a view, as `_stored` found
        value = before
    assert value.const_value is not None
    return value.const_value.dtype


def read_by_these_alone(linear: list[Linear]) -> set[str]:
    """Names of the weights that nothing but these operators reads."""
    these = {(each.node, each.place) for each in linear}

    def ends_there(value: ir.Value) -> bool:
        return not value.is_graph_output() and all(
            (use.node, use.idx) in these
            or (not use.node.domain and _seen_through(use.node) is value and ends_there(use.node.outputs[0]))
            for use in value.uses()
        )

    return {each.weight.name or "" for each in linear if ends_there(each.weight)}


def unsquashed(value: ir.Value) -> ir.Value:
    """The input of the softmax or sigmoid that an output comes from; the output itself where there is none."""
    found = value
    while (node := value.producer()) is not None and not node.domain and node.op_type in _SQUASHES | VIEW_OPERATORS:
        before = node.inputs[0]
        if before is None:
            break
        value = before
        if node.op_type in _SQUASHES:
            found = value
    return found


def own_bias(each: Linear) -> str:
    """The stored name of an operator's bias that nothing reads but operators of the same weight: a layer's, however
    often it is used. Empty where there is none.
    """
    place = BIAS.get(each.node.op_type)
    bias = _stored(each.node.inputs[place]) if place is not None and place < len(each.node.inputs) else None
    if bias is None or bias.is_graph_output():
        return ""
    for use in bias.uses() if len(bias.uses()) > 1 else ():
        if use.idx != BIAS.get(use.node.op_type):
            return ""
        if all(_stored(use.node.inputs[i]) is not each.weight for i in _LINEAR[use.node.op_type]):
            return ""
    return bias.name or ""


def is_normalised(node: ir.Node) -> bool:
    """Whether nothing but normalisations read what an operator gives, be it through a bias or a view."""
    pending, seen = [node.outputs[0]], 0
    while pending and seen < 16:
        value = pending.pop()
        seen += 1
        if value.is_graph_output() or not value.uses():
            return False
        for use in value.uses():
            kind = use.node.op_type
            if kind in _NORMS and use.idx == 0:
                continue
            adds = kind == "Add" and any(_stored(other) is not None for other in use.node.inputs)
            if not adds and kind not in VIEW_OPERATORS:
                return False
            pending.append(use.node.outputs[0])
    return not pending
