"""An order of operators that does not depend on how a file lists them: tools sort the nodes of a model anew."""

from __future__ import annotations

from onnx_ghn.graph.flat import FlatGraph, Op

__all__ = ["from_outputs"]


def from_outputs(flat: FlatGraph) -> list[Op]:
    """All operators, each behind what it reads: depth first from the outputs, and along the inputs in their order.

    An encoder so stands together, before the first operator of a decoder that reads it, and is not mixed with what the
    decoder does beside it (onnxslim sorts by depth). Those that no output depends on follow in their order.
    """
    order: list[Op] = []
    seen: set[Op] = set()
    listed = set(flat.ops)
    last = [tensor.producer for tensor in flat.outputs if tensor.producer is not None]
    for root in (*last, *flat.ops):
        pending = [root]
        while pending:  # without recursion: models can be thousands of operators deep
            op = pending[-1]
            if op in seen:
                pending.pop()
                continue
            before = [t.producer for t in op.inputs if t is not None and t.producer is not None]
            waiting = [one for one in before if one not in seen and one in listed and one is not op]
            if waiting:
                pending += reversed(waiting)
                continue
            seen.add(op)
            if op in listed:
                order.append(op)
            pending.pop()
    return order
