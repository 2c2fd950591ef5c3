"""Inputs of a decoder with a key-value cache before its first token: caches that are empty, and what goes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.cache_roles import cache_role, following

__all__ = ["has_caches", "with_empty_caches"]


def has_caches(names: Sequence[str]) -> bool:
    """Whether inputs of these names are tokens and caches."""
    return {"tokens", "cache"} <= set(map(cache_role, names))


def with_empty_caches(feed: Mapping[str, Array], declared: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """The inputs with nothing in the caches: masks, positions and lengths are those of the tokens alone.

    Drawn by themselves they contradict each other: a mask is as long as the cache and the tokens together.

    Args:
        feed: all inputs: tokens (B, N) or (B, N, width), caches and others.
        declared: their shapes, 0 where a dimension is free.
    """
    roles = {name: cache_role(name) for name in feed}
    tokens = next(array for name, array in feed.items() if roles[name] == "tokens")
    batch, new = tokens.shape[:2]
    # The branch without a cache does not look at one, but onnxruntime wants it to have a length.
    length = 1 if "branch" in roles.values() else 0
    found: dict[str, Array] = {}
    for name, array in feed.items():
        role, dtype = roles[name], array.dtype
        if role == "cache":
            found[name] = np.zeros(_cache_shape(array.shape, declared[name], length), dtype)
        elif role == "zeros":
            found[name] = np.zeros((batch, new), dtype)
        elif role in ("tokens", "encoder", "ones", "other"):
            found[name] = array
        else:
            found[name] = following(role, declared[name], dtype.name, cached=0, new=new, batch=batch)
    return found


def _cache_shape(shape: Sequence[int], declared: Sequence[int], length: int) -> tuple[int, ...]:
    """The shape of a cache of some tokens, on the axis that is free beside the batch; the last but one of several."""
    free = [axis for axis, dim in enumerate(declared) if axis and not dim]
    at = free[0] if len(free) == 1 else len(shape) - 2
    return tuple(length if axis == at and axis in free else dim for axis, dim in enumerate(shape))
