"""Max pooling over all axes of an image, batch and channels too, written as one over those that it pools.

JAX pools by windows that have a length along each axis, and jax2onnx writes them so: the image gets two axes more, and
the pooling has four of them, 1 × 2 × 2 × 1, of which onnxruntime knows three at most.
"""

from __future__ import annotations

import onnx_ir as ir

from onnx_ghn.passes.measuring import drop_if_unused
from onnx_ghn.passes.results import Rewrite

__all__ = ["PoolWhatIsPooled"]

_MADE = 2  # axes that are added before a pooling over all others


class PoolWhatIsPooled(ir.passes.InPlacePass):
    """Leaves out of max poolings the axes along which they pool nothing, where two others were added to have them in.

    The changes are the names of the values that are computed otherwise.
    """

    def call(self, model: ir.Model) -> Rewrite:
        """Rewrite the model in place."""
        changed = [output for node in list(model.graph) if (output := _rewritten(model.graph, node))]
        return Rewrite(model, bool(changed), tuple(changed))


def _rewritten(graph: ir.Graph, node: ir.Node) -> str:
    """Rewrite one operator; the name of the value that it is a part of, "" where it stays."""
    if node.op_type != "MaxPool" or node.domain not in ("", "ai.onnx") or len(node.outputs) > 1:
        return ""
    kernel = _ints(node, "kernel_shape", ())
    n = len(kernel)
    strides, dilations = (_ints(node, name, (1,) * n) for name in ("strides", "dilations"))
    pads = _ints(node, "pads", (0,) * 2 * n)
    automatic = node.attributes.get("auto_pad")
    if automatic is not None and automatic.as_string() not in ("", "NOTSET"):
        return ""
    before = _before_added(node)
    behind = _behind_dropped(node)
    if before is None or behind is None or not len(strides) == len(dilations) == len(pads) // 2 == n:
        return ""
    still = [i for i in range(n) if kernel[i] == strides[i] == 1 and not pads[i] and not pads[n + i]]
    if len(still) < _MADE:
        return ""
    order = [*still[:_MADE], *(i for i in range(n) if i not in still[:_MADE])]
    pooled = order[_MADE:]
    there = ir.node("Transpose", [before], attributes={"perm": order})
    attributes = {
        "kernel_shape": [kernel[i] for i in pooled],
        "strides": [strides[i] for i in pooled],
        "dilations": [dilations[i] for i in pooled],
        "pads": [pads[i] for i in (*pooled, *(n + i for i in pooled))],
    }
    kept = {name: value for name, value in node.attributes.items() if name not in attributes}
    pool = ir.node("MaxPool", [there.outputs[0]], attributes={**kept, **attributes}, name=node.name)
    back = ir.node("Transpose", [pool.outputs[0]], attributes={"perm": [order.index(i) for i in range(n)]})
    out = behind.outputs[0]
    name = out.name or ""
    there.outputs[0].name, pool.outputs[0].name = f"{name}_channels_first", f"{name}_pooled"
    graph.insert_before(node, [there, pool, back])
    made = back.outputs[0]
    made.type, made.shape = out.type, out.shape
    out.replace_all_uses_with(made, replace_graph_outputs=True)
    added = node.inputs[0]
    graph.remove([behind, node], safe=True)
    made.name = name
    if added is not None:
        drop_if_unused(added)
    return name


def _before_added(node: ir.Node) -> ir.Value | None:
    """The value to which Unsqueeze operators added two axes of length 1 at its front; None where they did not."""
    value, n_added = node.inputs[0], 0
    while n_added < _MADE and value is not None:
        producer = value.producer()
        if producer is None or producer.op_type != "Unsqueeze" or value.is_graph_output():
            return None
        axes = _axes(producer)
        if axes is None or sorted(axes) not in ([0], [1], [0, 1]):
            return None
        n_added += len(axes)
        value = producer.inputs[0]
    return value if n_added == _MADE else None


def _behind_dropped(node: ir.Node) -> ir.Node | None:
    """The Squeeze that takes the first two axes off what a pooling gives, where nothing else reads that."""
    value = node.outputs[0]
    uses = list(value.uses())
    if value.is_graph_output() or len(uses) != 1 or uses[0].node.op_type != "Squeeze":
        return None
    return uses[0].node if sorted(_axes(uses[0].node) or ()) == [0, 1] else None


def _ints(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    attribute = node.attributes.get(name)
    return tuple(attribute.as_ints()) if attribute is not None else default


def _axes(node: ir.Node) -> tuple[int, ...] | None:
    """Of Squeeze and Unsqueeze: an attribute up to opset 12, then an input."""
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        constant = ir.convenience.get_const_tensor(node.inputs[1])
        return None if constant is None else tuple(int(axis) for axis in constant.numpy().reshape(-1))
    return _ints(node, "axes", ()) or None
