"""What is said of quantised weights that `strip` emptied and that nothing fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onnx_ghn.graph import Role
from onnx_ghn.prediction.plan import Decision

if TYPE_CHECKING:
    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["note_emptied"]

_MAY_BE_ZERO = frozenset({Role.bias, Role.norm_bias})  # which start from zeros


def note_emptied(decisions: Sequence[Decision], stored: Mapping[str, StoredTensor]) -> list[str]:
    """A note on the quantised weights that keep zeros, or none.

    Weights that are quantised in blocks, or packed for one runtime's operator, cannot be written anew. Where a file
    was stripped they are zeros, which no other line tells from a start of the author's.

    Args:
        stored: all tensors of the model, by name.
    """
    empty = [
        decision.parameter
        for decision in decisions
        if decision.maker is None
        and decision.outcome == "kept"
        and decision.parameter.role not in _MAY_BE_ZERO
        and decision.parameter.size > 1
        and _is_empty(stored[decision.parameter.name])
    ]
    if not empty:
        return []
    tensors = "tensor holds" if len(empty) == 1 else "tensors hold"
    return [
        f"{len(empty)} quantised {tensors} zeros alone, as in a stripped file, and cannot be filled, first "
        f"{empty[0].name}: predict the model before it is quantised"
    ]


def _is_empty(tensor: StoredTensor) -> bool:
    from onnx_ghn.onnx_io.common_value import common_value

    is_integer = not (tensor.is_absent or tensor.is_sparse) and "INT" in tensor.dtype.name
    return is_integer and common_value(tensor) == 0
