"""Models that take batches of any size."""

from __future__ import annotations

import dataclasses

import onnx_ir as ir

from onnx_ghn.passes.results import Rewrite

__all__ = ["FreeBatch", "FreedBatch"]

_FREE = "onnx_ghn_batch"


@dataclasses.dataclass
class FreedBatch(Rewrite):
    """The model, and its inputs' shapes as they were declared (0 where free)."""

    shapes: dict[str, list[int]] = dataclasses.field(default_factory=dict)


class FreeBatch(ir.passes.InPlacePass):
    """Makes the first dimension of all inputs free, where they agree on it.

    torch exports networks for a single image, and a statistic needs more. What was inferred for a batch of the declared
    size is dropped. The changes are the names of the inputs.
    """

    def call(self, model: ir.Model) -> FreedBatch:
        """Rewrite the model in place."""
        graph = model.graph
        inputs = [value for value in graph.inputs if value.name not in graph.initializers]
        shapes = {
            value.name or "": [max(dim, 0) if isinstance(dim, int) else 0 for dim in value.shape or ()]
            for value in inputs
        }
        outputs = {id(value) for value in graph.outputs}
        for node in graph:
            for value in node.outputs:
                if id(value) not in outputs:
                    value.shape = value.type = None
        freed = []
        if len({shape[0] for shape in shapes.values() if shape} - {0}) == 1:
            for value in inputs:
                if value.shape is not None and len(value.shape):
                    value.shape = ir.Shape([_FREE, *value.shape[1:]])
                    freed.append(value.name or "")
        return FreedBatch(model, True, tuple(freed), shapes)
