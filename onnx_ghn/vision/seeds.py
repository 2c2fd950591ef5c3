"""Random numbers by what they are for: one seed, and as many independent streams as there are uses."""

from __future__ import annotations

import numpy as np

__all__ = ["AUGMENT", "DIVISION", "EVAL_ORDER", "NOISE", "ORDER", "SHOTS", "rng_for"]

# From 1: trailing zeros would make no difference.
ORDER, AUGMENT, NOISE, EVAL_ORDER, DIVISION, SHOTS = range(1, 7)


def rng_for(seed: int, use: int, *place: int) -> np.random.Generator:
    """The random numbers of one use and place (epoch, step, image, ...) under a seed."""
    return np.random.default_rng((seed, use, *place))
