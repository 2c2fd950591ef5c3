"""Sizes for dimensions that a model's inputs leave free: whatever its insides need, found by trying."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

__all__ = ["free_size", "n_attempts"]

_OTHER_RANKS = (16,)
_CHANNELS = 3


def n_attempts(ranks: Collection[int], sizes: Mapping[int, tuple[int, ...]]) -> int:
    """How many attempts there are for inputs of these ranks; one where nothing is free.

    Args:
        sizes: by rank, in the order in which they are tried.
    """
    return max((len(sizes.get(rank, _OTHER_RANKS)) for rank in ranks), default=1)


def free_size(dims: Sequence[int | None], axis: int, attempt: int, sizes: Mapping[int, tuple[int, ...]]) -> int:
    """Of a free dimension after the batch: 3 where it must be an image's channels, else that of the attempt.

    Args:
        dims: the declared shape, None or 0 where it is free.
    """
    if len(dims) == 4 and axis == 1 and dims[3] not in (1, 2, 3, 4):
        return _CHANNELS
    choices = sizes.get(len(dims), _OTHER_RANKS)
    return choices[min(attempt, len(choices) - 1)]
