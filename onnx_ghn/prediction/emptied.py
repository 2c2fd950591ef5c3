"""What is said of tensors that `strip` emptied and that nothing fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onnx_ghn.graph import Parameter, Role
from onnx_ghn.prediction.plan import Decision

if TYPE_CHECKING:
    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["note_emptied"]

_MAY_BE_ZERO = frozenset({Role.bias, Role.norm_bias})  # which start from zeros


def note_emptied(decisions: Sequence[Decision], stored: Mapping[str, StoredTensor]) -> list[str]:
    """Notes on the tensors that keep zeros, or none.

    Weights that are quantised in blocks, or packed for one runtime's operator, cannot be written anew, and of a vector
    that an unknown operator reads nobody can say what it starts from. Where a file was stripped they are zeros, which
    no other line tells from a start of the author's.

    Args:
        stored: all tensors of the model, by name.
    """
    kept = [
        decision.parameter
        for decision in decisions
        if decision.maker is None
        and decision.outcome == "kept"
        and decision.parameter.role not in _MAY_BE_ZERO
        and decision.parameter.size > 1
    ]
    notes = []
    if empty := [parameter for parameter in kept if _is_empty(stored[parameter.name])]:
        notes.append(
            f"{_tensors(empty, 'quantised ')} zeros alone, as in a stripped file, and cannot be filled, first "
            f"{empty[0].name}: predict the model before it is quantised"
        )
    if unread := [parameter for parameter in kept if parameter.doubt and _is_stripped(stored[parameter.name])]:
        notes.append(
            f"{_tensors(unread)} zeros alone, as in a stripped file, that nothing fills, first {unread[0].name}: "
            f"{unread[0].doubt}; predict the model before it is stripped, or inherit them"
        )
    return notes


def _tensors(parameters: Sequence[Parameter], kind: str = "") -> str:
    return f"{len(parameters)} {kind}{'tensor holds' if len(parameters) == 1 else 'tensors hold'}"


def _is_empty(tensor: StoredTensor) -> bool:
    from onnx_ghn.onnx_io.common_value import common_value

    is_integer = not (tensor.is_absent or tensor.is_sparse) and "INT" in tensor.dtype.name
    return is_integer and common_value(tensor) == 0


def _is_stripped(tensor: StoredTensor) -> bool:
    from onnx_ghn.onnx_io.common_value import common_value

    return tensor.kind == "constant_of_shape" and common_value(tensor) == 0
