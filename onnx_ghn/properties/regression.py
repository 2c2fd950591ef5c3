"""Support vector regression as it is stored: prediction in numpy, equal to that of the library that fitted it."""

from __future__ import annotations

import dataclasses

import numpy as np

from onnx_ghn.properties.features import Floats

__all__ = ["Regression"]


@dataclasses.dataclass(frozen=True, eq=False)
class Regression:
    """exp(-gamma |x - s|²) summed over support vectors s, on scaled features and a scaled target.

    Attributes:
        columns: (d,) features that it takes.
        mean, scale: (d,) of them.
        support: (m, d) scaled support vectors.
        dual: (m,) their coefficients.
        intercept, gamma: of the regression.
        target_mean, target_scale: of the target, after its logarithm where `log`.
        log: the target is a logarithm.
        margin: half the width of the interval, on the scaled target.
    """

    columns: tuple[int, ...]
    mean: Floats
    scale: Floats
    support: Floats
    dual: Floats
    intercept: float
    gamma: float
    target_mean: float = 0.0
    target_scale: float = 1.0
    log: bool = False
    margin: float = 0.0

    def predict(self, features: Floats) -> Floats:
        """(n, all features) -> (n,) values."""
        return self._unscaled(self._scaled(features))

    def interval(self, features: Floats) -> tuple[Floats, Floats]:
        """(n, all features) -> (n,) lower and (n,) upper ends."""
        middle = self._scaled(features)
        return self._unscaled(middle - self.margin), self._unscaled(middle + self.margin)

    def _scaled(self, features: Floats) -> Floats:
        x = (features[:, list(self.columns)] - self.mean) / self.scale  # (n, d)
        squared = ((x[:, None, :] - self.support[None, :, :]) ** 2).sum(axis=2)  # (n, m)
        found: Floats = np.exp(-self.gamma * squared) @ self.dual + self.intercept
        return found

    def _unscaled(self, y: Floats) -> Floats:
        y = y * self.target_scale + self.target_mean
        return np.exp(y) if self.log else y
