"""A copy of a model, to be changed in the place of the caller's."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["copy_model"]


def copy_model(model: ir.Model) -> ir.Model:
    """A model of its own graphs, nodes and values, which shares the tensors: milliseconds, whatever the weights take.

    `ir.Model.clone` leaves out `meta`, where reading notes the files that hold the weights, which writing must spare.
    """
    copy = model.clone()
    copy.meta.update(model.meta)
    return copy
