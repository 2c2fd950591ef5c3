"""What the first output of a classifier is: logits, or probabilities, which the loss must not take for logits."""

from __future__ import annotations

import enum

import numpy as np
import onnx_ir as ir

from onnx_ghn.arrays import Array
from onnx_ghn.onnx_io.view_operators import RESHAPE_OPERATORS

__all__ = ["Ending", "are_probabilities", "between_zero_and_one", "leave_out_ending"]

_DEFAULT_DOMAINS = ("", "ai.onnx")
#: Operators that hand values on as they are, in another shape at most.
_PASSING = RESHAPE_OPERATORS | {"Identity", "Dropout"}
_TOLERANCE = 1e-3  # of the sum of a row


class Ending(enum.Enum):
    """What the file does after the values that are trained."""

    none = "none"  # they are the file's outputs
    softmax = "softmax"  # they are logits
    sigmoid = "sigmoid"  # the loss takes the logarithm of their sigmoids
    probabilities = "probabilities"  # they are the file's outputs, of which the loss takes the logarithm


def leave_out_ending(model: ir.Model) -> Ending:
    """Remove the Softmax or Sigmoid that gives the first output, also before a Reshape or the like. In place."""
    value: ir.Value | None = model.graph.outputs[0]
    while value is not None:
        producer = value.producer()
        if producer is None or producer.domain not in _DEFAULT_DOMAINS or len(value.uses()) > 1:
            return Ending.none
        before = producer.inputs[0] if producer.inputs else None
        if producer.op_type in _PASSING:
            value = before
            continue
        if producer.op_type not in ("Softmax", "Sigmoid") or before is None or before.is_graph_input():
            return Ending.none
        _replace(model, value, before)
        return Ending.softmax if producer.op_type == "Softmax" else Ending.sigmoid
    return Ending.none


def _replace(model: ir.Model, value: ir.Value, before: ir.Value) -> None:
    for number, output in enumerate(model.graph.outputs):
        if output is value:
            model.graph.outputs[number] = before
    value.replace_all_uses_with(before)


def are_probabilities(outputs: Array) -> bool:
    """Whether each row, of two classes at least, is of no negative numbers and sums to one."""
    if outputs.shape[1] < 2 or not between_zero_and_one(outputs):
        return False
    return bool(np.abs(outputs.sum(axis=1) - 1).max() < _TOLERANCE)


def between_zero_and_one(outputs: Array) -> bool:
    """Whether all values could be probabilities, each by itself."""
    return bool(outputs.min() >= 0 and outputs.max() <= 1 + _TOLERANCE)
