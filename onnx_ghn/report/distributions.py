"""Summaries of how the values of a tensor are spread."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from onnx_ghn.prediction.fallback import Distribution, tensor_rng

__all__ = ["N_BINS", "Spread", "spread_of"]

N_BINS = 32
_HISTOGRAM_FROM = 16  # elements that a tensor needs for a histogram
_SAMPLE = 1 << 16  # elements that a histogram counts; mean and deviation are those of all
_WIDTH = 4.0  # standard deviations on either side of zero, or of the mean where it lies far from zero
_LEVELS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean, standard deviation and extremes of all finite elements, and a histogram of up to 65,536 of them.

    Attributes:
        levels: one character for each bin (0 to 9, a to z, A to Z, - and _): its count as 64ths of the highest count.
        low, high: the ends of the histogram.
        peak: the share of the elements in the highest bin.
        n_odd: the number of elements that are not finite.
    """

    mean: float
    std: float
    minimum: float
    maximum: float
    levels: str = ""
    low: float = 0.0
    high: float = 0.0
    peak: float = 0.0
    n_odd: int = 0


def spread_of(
    values: npt.NDArray[np.generic], name: str, reference: Distribution | None, seed: int = 0
) -> Spread | None:
    """Summarise an array of any float type. None where nothing in it is finite.

    Args:
        values: the array.
        name: the name of the tensor, which decides with the seed which elements the histogram counts.
        reference: a distribution that is drawn over the histogram, whose range it widens.
        seed: see `name`.
    """
    flat = values.reshape(-1)
    if flat.dtype.kind != "f" or flat.dtype.itemsize < 4:
        flat = flat.astype(np.float32)
    finite = np.isfinite(flat)
    n_odd = int(flat.size - np.count_nonzero(finite))
    if n_odd:
        flat = flat[finite]
    if not flat.size:
        return None
    mean, std = float(flat.mean(dtype=np.float64)), float(flat.std(dtype=np.float64))
    spread = Spread(mean, std, float(flat.min()), float(flat.max()), n_odd=n_odd)
    if flat.size < _HISTOGRAM_FROM or not std > 0:
        return spread
    if flat.size > _SAMPLE:
        # The sample is random: predicted tensors repeat where they are tiled, and even steps would meet equal elements.
        flat = flat[tensor_rng(name, seed).integers(0, flat.size, _SAMPLE)]
    centre = mean if abs(mean) > 2 * std else 0.0
    reach = _WIDTH * max(std, reference.std if reference is not None and centre == 0.0 else 0.0)
    low, high = centre - reach, centre + reach
    counts, _ = np.histogram(np.clip(flat, low, high), N_BINS, (low, high))
    levels = "".join(_LEVELS[math.ceil(63 * count / counts.max())] for count in counts.tolist())
    return dataclasses.replace(spread, levels=levels, low=low, high=high, peak=float(counts.max() / flat.size))
