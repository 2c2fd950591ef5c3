"""The time of operators of one kind as a smooth function of their sizes.

A Gaussian process on logarithms, about a straight line (Rasmussen and Williams, Gaussian Processes for Machine
Learning, 2006, chapters 2 and 5): with few measurements it is the line, with many it follows what a processor does at
certain sizes. Scales are chosen by the error of leaving one out, which has a closed form.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Smooth", "fit_smooth", "fit_undisturbed"]

Floats = npt.NDArray[np.float64]

_MOST = 700  # measurements of a kind; more add little and cost their cube
_SEARCHED = 160  # of them, for choosing scales
_RIDGE = 1.0  # of the line, on standardised sizes
_LENGTHS, _NOISES = (0.7, 1.5, 3.0, 6.0), (0.003, 0.02, 0.1)
_RELATIVE = (0.5, 2.0)  # by which the length of one size is changed while its turn is
_LEAST_OWN_LENGTHS = 40  # measurements, below which all sizes have one length
_DISTURBED = 0.15  # of a logarithm: what is so much above what its neighbours tell was disturbed
_ROUNDS, _LEAST_UNDISTURBED = 3, 15  # of leaving such out, and how many have to be left
_SEED = 0
_FLOOR_SCALE = 0.25  # of sizes that hardly vary


@dataclasses.dataclass(frozen=True, eq=False)
class Smooth:
    """A fitted function of d sizes.

    Attributes:
        mean, scale: (d,) of the sizes, whose units are then standard deviations.
        line: (1 + d,) constant and slopes.
        lengths: (d,) over which the function changes.
        points: (n, d) standardised sizes of the measurements.
        dual: (n,) coefficients of the kernel at them.
        noise: variance of a measurement over that of the function.
        variance: of the function about the line.
        left_out: (n,) errors in the logarithm of each measurement by the others.
    """

    mean: Floats
    scale: Floats
    line: Floats
    lengths: Floats
    points: Floats
    dual: Floats
    noise: float
    variance: float
    left_out: Floats

    def __call__(self, sizes: Floats) -> Floats:
        """(m, d) -> (m,) logarithms. Beyond the measured sizes it stays what it is at the nearest of them."""
        x = (sizes - self.mean) / self.scale  # (m, d)
        if len(self.points):
            x = np.clip(x, self.points.min(axis=0), self.points.max(axis=0))
        found: Floats = self.line[0] + x @ self.line[1:]
        if len(self.dual):
            found = found + _kernel(x, self.points, self.lengths) @ self.dual
        return found

    def beyond(self, sizes: Floats) -> Floats:
        """(m,) by how much the first of the sizes is above all measured ones."""
        most = (self.points[:, 0].max() * self.scale[0] + self.mean[0]) if len(self.points) else np.inf
        found: Floats = np.maximum(sizes[:, 0] - most, 0.0)
        return found


def fit_smooth(sizes: Floats, logs: Floats, like: Smooth | None = None) -> Smooth:
    """Fit (n, d) sizes to (n,) logarithms of times.

    Args:
        like: whose lengths and noise serve again, which takes most of the time to choose.
    """
    sizes, logs = _some(sizes, logs, _MOST)
    n, d = sizes.shape
    mean = sizes.mean(axis=0) if n else np.zeros(d)
    scale = np.maximum(sizes.std(axis=0), _FLOOR_SCALE) if n else np.ones(d)
    x = (sizes - mean) / scale
    line = _line(x, logs)
    rest = logs - line[0] - x @ line[1:]
    variance = float(np.mean(rest**2)) if n else 0.0
    if n < 3 or d == 0 or variance < 1e-8:
        errors = rest * n / max(n - 1, 1)
        return Smooth(mean, scale, line, np.ones(d), x, np.zeros(0), 1.0, variance, errors)
    lengths, noise = (like.lengths, like.noise) if like is not None and len(like.dual) else _chosen(x, rest)
    dual, errors = _solved(x, rest, lengths, noise)
    return Smooth(mean, scale, line, lengths, x, dual, noise, variance, errors)


def fit_undisturbed(sizes: Floats, logs: Floats, like: Smooth | None = None) -> Smooth:
    """Fit without the measurements that others made slower: those above what the rest tell of their sizes.

    What else runs on a machine makes times longer, never shorter, so that the mean of what is disturbed is no time at
    which anything runs.
    """
    sizes, logs = _some(sizes, logs, _MOST)
    smooth = fit_smooth(sizes, logs, like=like)
    for _ in range(_ROUNDS):
        kept = smooth.left_out <= _DISTURBED
        if kept.all() or kept.sum() < _LEAST_UNDISTURBED:
            break
        sizes, logs = sizes[kept], logs[kept]
        smooth = fit_smooth(sizes, logs, like=smooth)
    return smooth


def _some(sizes: Floats, logs: Floats, most: int) -> tuple[Floats, Floats]:
    """At most so many of the measurements, drawn always alike."""
    if len(logs) <= most:
        return sizes, logs
    kept = np.sort(np.random.default_rng(_SEED).choice(len(logs), most, replace=False))
    return sizes[kept], logs[kept]


def _line(x: Floats, y: Floats) -> Floats:
    """(1 + d,) ridge regression whose constant is free."""
    n, d = x.shape
    if n == 0:
        return np.zeros(1 + d)
    centre = y.mean()
    slopes = np.linalg.solve(x.T @ x + _RIDGE * np.eye(d), x.T @ (y - centre)) if d else np.zeros(0)
    found: Floats = np.concatenate([[centre - x.mean(axis=0) @ slopes], slopes])
    return found


def _kernel(a: Floats, b: Floats, lengths: Floats) -> Floats:
    """(m, d), (n, d) -> (m, n): Matérn 5/2, one where a and b are equal."""
    a, b = a / lengths, b / lengths
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    r = np.sqrt(5 * np.maximum(squared, 0))
    found: Floats = (1 + r + r**2 / 3) * np.exp(-r)
    return found


def _solved(x: Floats, y: Floats, lengths: Floats, noise: float) -> tuple[Floats, Floats]:
    """Coefficients, and the error of each measurement by the others (Rasmussen and Williams, equation 5.12)."""
    inverse = np.linalg.inv(_kernel(x, x, lengths) + noise * np.eye(len(x)))
    dual: Floats = inverse @ y
    return dual, dual / np.diag(inverse)


def _chosen(x: Floats, y: Floats) -> tuple[Floats, float]:
    """Lengths and noise with the least error of leaving one out: first one length for all, then each by itself."""
    n, d = x.shape
    x, y = _some(x, y, _SEARCHED)

    def error(lengths: Floats, noise: float) -> float:
        # Of absolute values: a disturbed measurement is not to decide.
        return float(np.abs(_solved(x, y, lengths, noise)[1]).mean())

    trials = [
        (error(np.full(d, length), noise), length, noise) for length, noise in itertools.product(_LENGTHS, _NOISES)
    ]
    best, length, noise = min(trials)
    lengths = np.full(d, length)
    if n < _LEAST_OWN_LENGTHS:
        return lengths, noise
    for _ in range(2):
        for axis in range(d):
            for factor in _RELATIVE:
                while True:
                    tried = lengths.copy()
                    tried[axis] *= factor
                    found = error(tried, noise) if 0.1 < tried[axis] < 60 else best
                    if found >= best * 0.999:
                        break
                    best, lengths = found, tried
    return lengths, noise
