"""Independent streams of random numbers from one seed, one for each use."""

from __future__ import annotations

import numpy as np

__all__ = ["AUGMENT", "DIVISION", "EVAL_ORDER", "NOISE", "ORDER", "SHOTS", "rng_for"]

# They begin at 1, since numpy ignores trailing zeros of a seed.
ORDER, AUGMENT, NOISE, EVAL_ORDER, DIVISION, SHOTS = range(1, 7)


def rng_for(seed: int, use: int, *place: int) -> np.random.Generator:
    """The random numbers of a seed for one use and place (epoch, step, image, …)."""
    return np.random.default_rng((seed, use, *place))
