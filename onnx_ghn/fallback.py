"""Standard initialisation by role, for the tensors that no GHN predicts."""

from __future__ import annotations

import math
import zlib

import numpy as np
import numpy.typing as npt

from onnx_ghn.graph import Parameter, Role

__all__ = ["standard_init", "tensor_rng"]

_EMBEDDING_STD = 0.02  # as BERT, GPT-2 and ViT draw embeddings and position tables
_PRELU_SLOPE = 0.25  # He et al. 2015, section 2.1


def tensor_rng(name: str, seed: int) -> np.random.Generator:
    """A generator for one tensor: the same numbers whatever other tensors are drawn, and in which order."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def standard_init(parameter: Parameter, seed: int) -> npt.NDArray[np.float32] | None:
    """What a framework would give a tensor of that role.

    Weights: Kaiming normal, std sqrt(2 / fan_in) (He et al. 2015); embeddings and position tables normal with
    std 0.02; scales one; biases zero; slopes of PRelu 0.25.

    Returns:
        an array of the stored shape; None for what has no standard, which keeps its values.
    """
    shape = parameter.layout.canonical
    rng = tensor_rng(parameter.name, seed)
    match parameter.role:
        case Role.weight:
            fan_in = math.prod(shape[1:]) * parameter.layout.inflation
            return _normal(parameter, rng, math.sqrt(2.0 / max(fan_in, 1)))
        case Role.embedding | Role.position:
            return _normal(parameter, rng, _EMBEDDING_STD)
        case Role.norm_scale:
            return np.ones(parameter.shape, np.float32)
        case Role.bias | Role.norm_bias:
            return np.zeros(parameter.shape, np.float32)
        case _:
            return np.full(parameter.shape, _PRELU_SLOPE, np.float32) if parameter.op == "PRelu" else None


def _normal(parameter: Parameter, rng: np.random.Generator, std: float) -> npt.NDArray[np.float32]:
    # Independent of one another, the numbers need no way through the layout. One array, scaled where it is.
    values = rng.standard_normal(parameter.shape, dtype=np.float32)
    return np.multiply(values, np.float32(std), out=values)
