"""Sizes for the dimensions that a model's inputs leave free. Which one the model takes is found by trying."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

__all__ = ["free_size", "n_attempts"]

_OTHER_RANKS = (16,)
_CHANNELS = 3


def n_attempts(ranks: Collection[int], sizes: Mapping[int, tuple[int, ...]]) -> int:
    """The number of attempts for inputs of these ranks; one if nothing is free.

    Args:
        sizes: by rank, in the order in which they are tried.
    """
    return max((len(sizes.get(rank, _OTHER_RANKS)) for rank in ranks), default=1)


def free_size(dims: Sequence[int | None], axis: int, attempt: int, sizes: Mapping[int, tuple[int, ...]]) -> int:
    """The size of a free dimension after the batch: 3 if it must be the channels of an image, else that of the attempt.

    Args:
        dims: the declared shape, with None or 0 for a free dimension.
    """
    if len(dims) == 4 and axis == 1 and dims[3] not in (1, 2, 3, 4):
        return _CHANNELS
    choices = sizes.get(len(dims), _OTHER_RANKS)
    return choices[min(attempt, len(choices) - 1)]
