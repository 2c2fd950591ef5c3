"""Inputs that are states of recurrent layers, whose batch is not their first axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["state_batch", "state_inputs"]

_MOST_LAYERS = 16  # times directions
_RANK = 3


def state_inputs(declared: Mapping[str, Sequence[int]]) -> frozenset[str]:
    """Names of inputs of (layers × directions, batch, features), as ONNX's recurrent operators take their states.

    Told by sizes: the first and the last are given, the second is free or one, and another input has a free batch.

    Args:
        declared: the shapes of all inputs, 0 where a dimension is free.
    """
    if not any(shape and not shape[0] for shape in declared.values()):
        return frozenset()
    return frozenset(
        name
        for name, shape in declared.items()
        if len(shape) == _RANK and 0 < shape[0] <= _MOST_LAYERS and shape[1] in (0, 1) and shape[2]
    )


def state_batch(declared: Mapping[str, Sequence[int]], states: frozenset[str], batch: int) -> int:
    """The number of samples that a model takes whose states are of a given batch: that, or `batch` where it is free."""
    given = {declared[name][1] for name in states} - {0}
    return given.pop() if given else batch
