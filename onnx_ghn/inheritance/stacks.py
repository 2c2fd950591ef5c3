"""Layers whose tensors are stacked in one, of which each turn of a loop takes its own: fewer of them, or more."""

from __future__ import annotations

import dataclasses

import numpy as np

from onnx_ghn.inheritance.structure import Block, Structure
from onnx_ghn.inheritance.tracing import Trace
from onnx_ghn.inheritance.transfer import Rest, Step, rows

__all__ = ["Stacked", "stacked"]


@dataclasses.dataclass(frozen=True)
class Stacked:
    """How the layers of one tensor are made.

    Attributes:
        doubt: why outputs are not kept, "" where they are.
        rest: layers that keep their start, None where there are none.
    """

    step: Step
    rule: str
    doubt: str = ""
    rest: Rest | None = None


def stacked(trace: Trace, structure: Structure, name: str, axis: int, size: int, have: int) -> Stacked:
    """Take the first layers of a deeper donor; spread those of one that is less deep, and let new ones do nothing.

    A new layer does nothing where all that it adds to its skip begins at zero. Its other tensors are those of the layer
    before it, so that it learns from the start.

    Args:
        axis: along which the layers of the tensor are stacked, `size` of them, and `have` in the donor.
    """
    if size < have:
        return Stacked(
            rows(axis, np.arange(size)), f"the first {size} of {have} layers", "layers of the donor are left out"
        )
    source = np.arange(size) * have // size
    is_new = np.r_[False, source[1:] == source[:-1]]
    block = next((block for block in structure.blocks if any(piece.name == name for piece in block.pieces)), None)
    rule = f"layers {have} → {size}"
    if block is None or not _can_do_nothing(trace, block):
        step = rows(axis, np.where(is_new, -1, source))
        return Stacked(step, rule, "new layers keep their own start", Rest(axis, is_new))
    if name not in block.branch:
        return Stacked(rows(axis, source), f"{rule} copied")
    nothing = 0.0 - trace.offsets.get(name, 0.0)  # what the model adds itself makes it zero
    step = rows(axis, np.where(is_new, -1, source), empty=nothing)
    return Stacked(step, f"{rule}, the new ones {nothing:g}")


def _can_do_nothing(trace: Trace, block: Block) -> bool:
    """Whether a block leaves its skip as it is when what scales its branch is zero: no norm stands behind the sum."""
    return block.has_branch_of_its_own and all(trace.uses[piece.name].op <= block.merge for piece in block.pieces)
