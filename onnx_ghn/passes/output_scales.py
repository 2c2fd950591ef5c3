"""Models that measure how large their operators' outputs are, and that scale weights as they run.

The scale of a value is its root mean square over all elements. Both passes number the operators alike, so that what
one measures on a model with one set of weights is a target for the other on the same model with another set.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from onnx_ghn.passes.linear_operators import (
    BIAS,
    FLOATS,
    computed_on_inputs,
    element_type,
    is_normalised,
    linear_operators,
    own_bias,
    read_by_these_alone,
    unsquashed,
)
from onnx_ghn.passes.results import Rewrite

__all__ = ["CorrectScales", "Corrected", "MeasureScales", "Measured"]

_OLDEST_OPSET = 9  # that has Where
_TINY = 1e-30
#: A factor beyond this says that an output is zero (an embedding of zeros, of which others are none) or overflows.
_MOST = 1e9


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
        own = [value for value in graph.outputs if value.dtype in FLOATS]
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
                place = BIAS.get(each.node.op_type, len(each.node.inputs))
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
                nodes.multiply(each.node, BIAS[each.node.op_type], factor)
                corrected.factors[biases[each.number]] = corrected.factors[name]
        corrected.modified = bool(corrected.factors)
        corrected.changes = tuple(dict.fromkeys(corrected.factors.values()))
        return corrected


def _unit_targets(graph: ir.Graph) -> dict[int, float]:
    """Scales of 1, by the number of the operator: of layers, see `CorrectScales`."""
    given = computed_on_inputs(graph)
    linear = list(linear_operators(graph))
    tables = {each.weight for each in linear if each.node.op_type == "Gather"}
    return {each.number: 1.0 for each in linear if each.node.outputs[0] in given and each.weight not in tables}


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
        place = BIAS.get(node.op_type, len(inputs))
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
        typed = self._op("Cast", [factor], to=int(element_type(weight)))
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
        typed = self._op("Cast", [factor], to=int(element_type(value)))
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
