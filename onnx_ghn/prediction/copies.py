"""What is said of units that are copies of each other: a prediction is repeated in tensors that are wider than it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onnx_ghn.graph import Role
from onnx_ghn.prediction.options import PredictOptions
from onnx_ghn.prediction.plan import Decision

if TYPE_CHECKING:
    from onnx_ghn.ghn import Block

__all__ = ["note_copies"]


def note_copies(decisions: Sequence[Decision], blocks: Mapping[int, Block], options: PredictOptions) -> list[str]:
    """A note on the predicted weights that have fewer different units than units, or none.

    Units that are equal going in and coming out get equal gradients: no training without noise tells them apart.

    Args:
        blocks: what the GHN decoded, by the index of the parameter.
    """
    counts: dict[str, tuple[int, int]] = {}
    for decision in decisions:
        maker = decision.maker
        if maker is None or maker.source != "ghn" or maker.index is None or maker.original is not None or maker.is_twin:
            continue
        if decision.parameter.role is not Role.weight or decision.parameter.kept:
            continue
        if maker.separates(options) != "none":
            continue
        block = blocks[maker.index]
        n_distinct = _distinct_units(block)
        if n_distinct is not None and n_distinct < block.shape[0]:
            counts[decision.parameter.name] = (n_distinct, block.shape[0])
    if not counts:
        return []
    name, (n_distinct, n_units) = max(counts.items(), key=lambda entry: entry[1][1] - entry[1][0])
    what = "1 predicted weight has" if len(counts) == 1 else f"{len(counts)} predicted weights have"
    return [
        f"{what} units that are copies of each other, most in {name}, where {n_distinct:,} of {n_units:,} differ. "
        "If the next layer weights copies equally, training cannot separate them; `post` noise does"
    ]


def _distinct_units(block: Block) -> int | None:
    """How many different units a weight has; None where its rows are no units, or are not repeated as rows.

    Counted in the block, whose rows are repeated whole: the tensor itself may take gigabytes. A kernel with one input
    channel a unit reads a channel of its own, as in a depthwise convolution.
    """
    shape = block.shape  # out × in (× kh × kw)
    if len(shape) < 2 or 0 in shape or block.tiled[0] != shape[0] or (len(shape) > 2 and shape[1] == 1):
        return None
    rows = block.values.reshape(len(block.values), -1) + 0.0  # (decoded units, fan_in); without zeros below zero
    return len({row.tobytes() for row in rows})
