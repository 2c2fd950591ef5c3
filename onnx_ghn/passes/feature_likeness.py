"""Models that give out how alike the features of different samples are, just before their last layer."""

from __future__ import annotations

import onnx_ir as ir

from onnx_ghn.passes.linear_operators import computed_on_inputs, linear_operators, unsquashed
from onnx_ghn.passes.results import Rewrite

__all__ = ["GiveFeatureProducts"]

_PREFIX = "onnx_ghn_features"


class GiveFeatureProducts(ir.passes.InPlacePass):
    """Lets a model give out the inner products between the features of its samples.

    Features are what the last layer with a weight reads on the way to the first output: from there back, whatever has
    one input that is computed is passed. The change is the name of the output that holds the products, (N, N) for N
    samples; there is none where no layer is found.
    """

    def call(self, model: ir.Model) -> Rewrite:
        """Rewrite the model in place."""
        features = _features(model.graph)
        if features is None:
            return Rewrite(model, False)
        given = ir.node("Cast", [features], attributes={"to": int(ir.DataType.FLOAT)})
        flat = ir.node("Flatten", [given.outputs[0]], attributes={"axis": 1})
        transposed = ir.node("Transpose", [flat.outputs[0]], attributes={"perm": [1, 0]})
        products = ir.node("MatMul", [flat.outputs[0], transposed.outputs[0]])
        made = [given, flat, transposed, products]
        for number, node in enumerate(made):
            node.outputs[0].name = f"{_PREFIX}_{number}"
        output = products.outputs[0]
        output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([None, None])
        model.graph.extend(made)
        model.graph.outputs.append(output)
        return Rewrite(model, True, (output.name or "",))


def _features(graph: ir.Graph) -> ir.Value | None:
    """What the last layer reads; None where the way back to it forks, or where there is none."""
    if not graph.outputs:
        return None
    given = computed_on_inputs(graph)
    layers = {each.node: each for each in linear_operators(graph) if each.node.op_type != "Gather"}
    value = unsquashed(graph.outputs[0])
    while (node := value.producer()) is not None:
        layer = layers.get(node)
        computed = [
            each
            for place, each in enumerate(node.inputs)
            if each is not None and each in given and not (layer is not None and place == layer.place)
        ]
        if layer is not None:
            return computed[0] if computed else None
        if len(computed) != 1:
            return None
        value = computed[0]
    return None
