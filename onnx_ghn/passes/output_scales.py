"""Models that measure how large their operators' outputs are, and that scale weights as they run.

The scale of a value is its root mean square over all elements. Both passes number the operators alike, so that what
one measures on a model with one set of weights is a target for the other on the same model with another set.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx_ir as ir

from onnx_ghn.onnx_io.attributes import attribute_tensor
from onnx_ghn.passes.results import Rewrite

__all__ = [
    "CorrectScales",
    "Corrected",
    "Linear",
    "MeasureScales",
    "Measured",
    "computed_on_inputs",
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
_BIAS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "DeformConv": 3}
_VIEWS = frozenset({"Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
#: What makes the scale of its input immaterial.
_NORMS = frozenset(
    {"BatchNormalization", "LayerNormalization", "GroupNormalization", "InstanceNormalization", "RMSNormalization"}
) | {"SimplifiedLayerNormalization", "MeanVarianceNormalization", "LpNormalization"}
#: What gives values of one size, however large its input is.
_SQUASHES = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Tanh"})
_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_SHAPES = frozenset({"Shape", "Size"})
_OLDEST_OPSET = 9  # that has Where
_TINY = 1e-30
#: A factor beyond this says that an output is zero (an embedding of zeros, of which others are none) or overflows.
_MOST = 1e9


@dataclasses.dataclass(frozen=True)
class Linear:
    """An operator that is linear in a stored weight."""

    number: int  # in the order of the graph
    node: ir.Node
    place: int  # of the weight among its inputs
    weight: ir.Value  # as it is stored


@dataclasses.dataclass
class Measured(Rewrite):
    """The model, and the outputs that hold the scale of each operator (by its number) and of each output of its own."""

    operators: dict[int, str] = dataclasses.field(default_factory=dict)
    outputs: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Corrected(Rewrite):
    """The model, and by the stored name of each tensor that may be scaled, the output that holds its factor."""

    factors: dict[str, str] = dataclasses.field(default_factory=dict)


class MeasureScales(ir.passes.InPlacePass):
    """Lets a model give out the scale of each output of its own, and of its operators that are linear in a weight.

    Where an output is a softmax or a sigmoid, its scale is that of the logits.

    Args:
        operators: leave these out where it is false.
        outputs: names of the model's own, where others have been added to them; None: all.
    """

    def __init__(self, *, operators: bool = True, outputs: Collection[str] | None = None) -> None:
        super().__init__()
        self._operators = operators
        self._outputs = outputs

    def call(self, model: ir.Model) -> Measured:
        """Rewrite the model in place."""
        graph = model.graph
        nodes = _Nodes(graph, "onnx_ghn_scale")
        own = [value for value in graph.outputs if value.dtype in _FLOATS]
        own = [value for value in own if self._outputs is None or value.name in self._outputs]
        measured = Measured(model, True)
        for linear in linear_operators(graph) if self._operators else ():
            measured.operators[linear.number] = nodes.give_out(nodes.scale(linear.node.outputs[0]), linear.node)
        for value in own:
            measured.outputs[value.name or ""] = nodes.give_out(nodes.scale(unsquashed(value)), None)
        measured.changes = (*measured.operators.values(), *measured.outputs.values())
        return measured


class CorrectScales(ir.passes.InPlacePass):
    """Lets a model scale its weights as it runs, from the inputs on, so that operators' outputs reach given scales.

    Each tensor gets one factor, which is given out: with the tensor multiplied by it the model computes the same. An
    operator's own bias is scaled as its weight is, where it may be.

    Args:
        targets: the scale of the outputs by the number of the operator; None: 1 for each layer, which is each operator
            that computes on what the model is given, and not on constants alone (biases of positions), nor looks up
            rows. There the scale is that without the operator's bias, where this may not be scaled.
        scalable: names of the values whose tensors may be scaled.
        close: a scale that is within this factor of its target stays.
        most: one that is further from it than this factor stays, too, as do those that say nothing.
    """

    def __init__(
        self, targets: Mapping[int, float] | None, scalable: Collection[str], close: float = 2.0, most: float = math.inf
    ) -> None:
        super().__init__()
        self.targets = targets
        self.close, self.most = close, min(most, _MOST)
        self.scalable = frozenset(scalable)

    def call(self, model: ir.Model) -> Corrected:
        """Rewrite the model in place."""
        graph = model.graph
        corrected = Corrected(model, False)
        if graph.opset_imports.get("", 1) < _OLDEST_OPSET:
            return corrected
        nodes = _Nodes(graph, "onnx_ghn_factor")
        # By the numbers of this graph, whose functions are inlined: in the file they may be fewer.
        targets = _unit_targets(graph) if self.targets is None else self.targets
        linear = [each for each in linear_operators(graph) if each.weight.name in self.scalable]
        seen: set[str] = set()
        alone = read_by_these_alone(linear)
        biases = {each.number: name for each in linear if (name := own_bias(each)) in self.scalable}
        for each in linear:
            name = each.weight.name or ""
            target = targets.get(each.number, 0.0)
            if name not in alone:
                continue
            factor = nodes.factors.get(name)
            is_first = name not in seen
            seen.add(name)
            if factor is None:
                # A later operator cannot scale the weight: the first has run without.
                if not is_first or not (np.isfinite(target) and target > _TINY) or is_normalised(each.node):
                    continue
                place = _BIAS.get(each.node.op_type, len(each.node.inputs))
                has_bias = place < len(each.node.inputs) and each.node.inputs[place] is not None
                without_bias = self.targets is None and each.number not in biases
                twin, factor = nodes.factor(each.node, target, self.close, self.most, without_bias=without_bias)
                corrected.factors[name] = nodes.give_out(factor, each.node)
                nodes.factors[name] = factor
                if each.number in biases:
                    corrected.factors[biases[each.number]] = corrected.factors[name]
                if each.number in biases or not has_bias:  # all that it gives is scaled: it need not run again
                    nodes.replace(each.node, twin, factor, each.place)
                    continue
            nodes.multiply(each.node, each.place, factor)
            if each.number in biases:
                nodes.multiply(each.node, _BIAS[each.node.op_type], factor)
                corrected.factors[biases[each.number]] = corrected.factors[name]
        corrected.modified = bool(corrected.factors)
        corrected.changes = tuple(dict.fromkeys(corrected.factors.values()))
        return corrected


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


def _unit_targets(graph: ir.Graph) -> dict[int, float]:
    """Scales of 1, by the number of the operator: of layers, see `CorrectScales`."""
    given = computed_on_inputs(graph)
    linear = list(linear_operators(graph))
    tables = {each.weight for each in linear if each.node.op_type == "Gather"}
    return {each.number: 1.0 for each in linear if each.node.outputs[0] in given and each.weight not in tables}


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
            return value if value.const_value.dtype in _FLOATS else None
        node = value.producer()
        if node is None or node.domain:
            return None
        if node.op_type in ("Constant", "ConstantOfShape"):
            return value
        value = _seen_through(node)
    return None


def _seen_through(node: ir.Node) -> ir.Value | None:
    """What an operator gives as it is, seen otherwise or multiplied by a number; None for any other operator."""
    if node.op_type in _VIEWS:
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


def _element_type(value: ir.Value) -> ir.DataType:
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
    while (node := value.producer()) is not None and not node.domain and node.op_type in _SQUASHES | _VIEWS:
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
    place = _BIAS.get(each.node.op_type)
    bias = _stored(each.node.inputs[place]) if place is not None and place < len(each.node.inputs) else None
    if bias is None or bias.is_graph_output():
        return ""
    for use in bias.uses() if len(bias.uses()) > 1 else ():
        if use.idx != _BIAS.get(use.node.op_type):
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
            if not adds and kind not in _VIEWS:
                return False
            pending.append(use.node.outputs[0])
    return not pending


class _Nodes:
    """Makes nodes that measure and scale, each beside the operator that it is for."""

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        self.factors: dict[str, ir.Value] = {}  # by the name of the weight
        self._graph = graph
        self._prefix = prefix
        self._count = 0
        self._made: list[ir.Node] = []

    def scale(self, value: ir.Value) -> ir.Value:
        """Root mean square of all elements; infinite above 1e19 or so, whose squares float32 does not hold."""
        given = self._op("Cast", [value], to=int(ir.DataType.FLOAT))
        size = self._op("Cast", [self._op("Size", [value])], to=int(ir.DataType.FLOAT))
        return self._op("Div", [self._op("ReduceL2", [given], keepdims=0), self._op("Sqrt", [size])])

    def factor(
        self, node: ir.Node, target: float, close: float, most: float, *, without_bias: bool = False
    ) -> tuple[ir.Value, ir.Value]:
        """What an operator gives without any factor, and what to multiply its weight by: 1 where that is near the
        target, or too far to compare.
        """
        inputs = list(node.inputs)
        place = _BIAS.get(node.op_type, len(inputs))
        if without_bias and place < len(inputs):
            inputs[place] = None
        twin = ir.node(node.op_type, inputs, attributes=dict(node.attributes), domain=node.domain, num_outputs=1)
        self._add(twin)
        ratio = self._op(
            "Div", [self._number(target), self._op("Add", [self.scale(twin.outputs[0]), self._number(_TINY)])]
        )
        far = self._op("Or", [self._between(ratio, 1 / most, 1 / close), self._between(ratio, close, most)])
        factor = self._op("Where", [far, ratio, self._number(1.0)])
        self._flush(node)
        return twin.outputs[0], factor

    def replace(self, node: ir.Node, unscaled: ir.Value, factor: ir.Value, place: int) -> None:
        """Let a node give a value of its type multiplied by a factor, in the place of what it computes."""
        weight = node.inputs[place]
        assert weight is not None
        typed = self._op("Cast", [factor], to=int(_element_type(weight)))
        self._flush(node)
        node.resize_inputs(2)
        node.replace_input_with(0, unscaled)
        node.replace_input_with(1, typed)
        node.attributes.clear()
        node.op_type, node.domain = "Mul", ""

    def _between(self, value: ir.Value, least: float, most: float) -> ir.Value:
        above, below = ("Greater", least), ("Less", most)
        return self._op("And", [self._op(kind, [value, self._number(bound)]) for kind, bound in (above, below)])

    def multiply(self, node: ir.Node, place: int, factor: ir.Value) -> None:
        """Let a node read an input, a view of what is stored, multiplied by a factor."""
        value = node.inputs[place]
        assert value is not None
        typed = self._op("Cast", [factor], to=int(_element_type(value)))
        node.replace_input_with(place, self._op("Mul", [value, typed]))
        self._flush(node)

    def give_out(self, value: ir.Value, behind: ir.Node | None) -> str:
        """Make a value an output of the model; its name."""
        value.type = ir.TensorType(ir.DataType.FLOAT)
        value.shape = ir.Shape([])
        self._graph.outputs.append(value)
        if self._made:
            (self._graph.extend(self._made) if behind is None else self._graph.insert_after(behind, self._made))
            self._made = []
        return value.name or ""

    def _flush(self, node: ir.Node) -> None:
        self._graph.insert_before(node, self._made)
        self._made = []

    def _number(self, number: float) -> ir.Value:
        tensor = ir.tensor(np.array(number, np.float32))
        return self._add(ir.node("Constant", [], attributes={"value": tensor}))

    def _op(self, kind: str, inputs: list[ir.Value], **attributes: int) -> ir.Value:
        return self._add(ir.node(kind, inputs, attributes=attributes))

    def _add(self, node: ir.Node) -> ir.Value:
        self._count += 1
        node.outputs[0].name = f"{self._prefix}_{self._count}"
        self._made.append(node)
        return node.outputs[0]
