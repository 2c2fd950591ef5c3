"""Layers of a GHN on arrays, as torch computes them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Weights", "gelu", "layer_norm", "linear", "matrix", "mlp", "relu", "sigmoid"]

Floats: TypeAlias = npt.NDArray[np.float32]
Weights: TypeAlias = Mapping[str, Floats]
"""The tensors of a GHN by their published names."""

_NORM_EPS = 1e-5
_ERF_END, _ERF_STEPS = 4.0, 1024  # beyond it erf is 1 in float32; per unit of its argument 256 known values


def matrix(weights: Weights, name: str) -> Floats:
    """The (out, in) weights of a layer that may be stored as a convolution's (out, in, 1, 1)."""
    stored = weights[f"{name}.weight"]
    return stored.reshape(stored.shape[:2])


def linear(weights: Weights, name: str, x: Floats) -> Floats:
    """(..., in) -> (..., out)."""
    out: Floats = x @ matrix(weights, name).T
    bias = weights.get(f"{name}.bias")
    if bias is not None:
        out += bias
    return out


def relu(x: Floats) -> Floats:
    """In place, of an array that nobody else has."""
    return np.maximum(x, 0, out=x)


def mlp(weights: Weights, name: str, x: Floats, *, last_relu: bool) -> Floats:
    """(..., in) -> (..., out): two linear layers with ReLU between, and behind where `last_relu` says so."""
    out = linear(weights, f"{name}.fc.2", relu(linear(weights, f"{name}.fc.0", x)))
    return relu(out) if last_relu else out


def layer_norm(weights: Weights, name: str, x: Floats) -> Floats:
    """(..., C) -> (..., C)."""
    apart = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(apart).mean(axis=-1, keepdims=True)
    apart /= np.sqrt(variance + np.float32(_NORM_EPS))
    out: Floats = apart * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return out


def sigmoid(x: Floats) -> Floats:
    """By the hyperbolic tangent, which does not overflow."""
    half: Floats = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * x))
    return half


def gelu(x: Floats) -> Floats:
    """x times the normal distribution function of x."""
    out: Floats = np.float32(0.5) * x * (1 + _erf(x * np.float32(math.sqrt(0.5))))
    return out


def _erf(x: Floats) -> Floats:
    """The error function, which numpy lacks: between known values by Taylor's second order, exact to 2e-8."""
    known, slopes = _erf_table()
    size = np.minimum(np.abs(x), np.float32(_ERF_END))
    place = np.rint(size * np.float32(_ERF_STEPS / _ERF_END)).astype(np.int32)
    nearest = place.astype(np.float32) * np.float32(_ERF_END / _ERF_STEPS)  # exact: a power of two
    step = size - nearest
    # The second derivative is -2 x times the first.
    values: Floats = known[place] + slopes[place] * (step - nearest * step * step)
    return np.copysign(values, x, out=values)


@functools.cache
def _erf_table() -> tuple[Floats, Floats]:
    """erf and its derivative, from 0 to `_ERF_END`."""
    points = np.linspace(0, _ERF_END, _ERF_STEPS + 1)
    known = np.array([math.erf(point) for point in points], np.float32)
    return known, (2 / math.sqrt(math.pi) * np.exp(-(points**2))).astype(np.float32)
