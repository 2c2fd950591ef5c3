"""Standard initialisation by role, for the tensors that no GHN predicts."""

from __future__ import annotations

import dataclasses
import math
import zlib

import numpy as np
import numpy.typing as npt

from onnx_ghn.graph import Parameter, Role

__all__ = ["Distribution", "has_standard", "standard_distribution", "standard_init", "tensor_rng"]

_EMBEDDING_STD = 0.02  # as BERT, GPT-2 and ViT draw embeddings and position tables
_PRELU_SLOPE = 0.25  # He et al. 2015, section 2.1


def tensor_rng(name: str, seed: int) -> np.random.Generator:
    """A generator for one tensor: the same numbers whatever other tensors are drawn, and in which order."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


@dataclasses.dataclass(frozen=True)
class Distribution:
    """What a tensor is drawn from: normal with this mean and standard deviation; one value where that is 0."""

    name: str
    mean: float
    std: float


def standard_distribution(parameter: Parameter) -> Distribution | None:
    """What a framework would draw a tensor of that role from; None for what has no standard.

    Weights: Kaiming normal, std sqrt(2 / fan_in) (He et al. 2015, equation 10); embeddings and position tables normal
    with std 0.02; scales one; biases zero.
    """
    match parameter.role:
        case Role.weight:
            fan_in = math.prod(parameter.layout.canonical[1:]) * parameter.layout.inflation
            return Distribution("Kaiming", 0.0, math.sqrt(2.0 / max(fan_in, 1)))
        case Role.embedding | Role.position:
            return Distribution("normal", 0.0, _EMBEDDING_STD)
        case Role.norm_scale:
            return Distribution("ones", 1.0, 0.0)
        case Role.bias | Role.norm_bias:
            return Distribution("zeros", 0.0, 0.0)
        case _:
            return None


def has_standard(parameter: Parameter) -> bool:
    """Whether `standard_init` has values for it."""
    return parameter.role is not Role.other or parameter.op == "PRelu"


def standard_init(parameter: Parameter, seed: int) -> npt.NDArray[np.float32] | None:
    """A tensor from its `standard_distribution`; slopes of PRelu are 0.25.

    Returns:
        an array of the stored shape; None for what has no standard, which keeps its values.
    """
    drawn_from = standard_distribution(parameter)
    if drawn_from is None:
        return np.full(parameter.shape, _PRELU_SLOPE, np.float32) if parameter.op == "PRelu" else None
    if drawn_from.std:
        return _normal(parameter, tensor_rng(parameter.name, seed), drawn_from.std)
    return np.full(parameter.shape, drawn_from.mean, np.float32)


def _normal(parameter: Parameter, rng: np.random.Generator, std: float) -> npt.NDArray[np.float32]:
    # Independent of one another, the numbers need no way through the layout. One array, scaled where it is.
    values = rng.standard_normal(parameter.shape, dtype=np.float32)
    return np.multiply(values, np.float32(std), out=values)
