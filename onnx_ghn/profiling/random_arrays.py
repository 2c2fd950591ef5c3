"""Random values for an input of a model."""

from __future__ import annotations

import math

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OptionError
from onnx_ghn.limits import gib, memory_bytes
from onnx_ghn.profiling.specs import InputSpec

__all__ = ["check_type", "drawn_bytes", "random_array"]

#: Types of which values are made up, beside truth values.
_FLOATS = ("float16", "float32", "float64")
_INTEGERS = tuple(f"{sign}{bits}" for sign in ("int", "uint") for bits in (8, 16, 32, 64))


def drawn_bytes(shape: tuple[int, ...]) -> int:
    """What `random_array` needs for a shape, at least: values are drawn in float64 and fed as float32 or wider."""
    return math.prod(shape) * 12


def check_type(spec: InputSpec) -> None:
    """Refuse an input of a type of which no values are made up. Raises OptionError."""
    if spec.dtype not in ("bool", *_INTEGERS, *_FLOATS):
        raise OptionError(
            f"input {spec.name!r} is of type {spec.dtype}, which numpy cannot feed; give an input file in `inputs`"
        )


def random_array(rng: np.random.Generator, spec: InputSpec, shape: tuple[int, ...]) -> Array:
    """Standard normal floats; integers below the rows of the table that they index, else 0 and 1.

    Raises:
        OptionError: a type that numpy does not feed, or more than half of the machine's memory.
    """
    needed_bytes = drawn_bytes(shape)
    if needed_bytes > memory_bytes() / 2:
        raise OptionError(
            f"input {spec.name} {list(shape)} needs {gib(needed_bytes)}, more than half of this machine's memory"
        )
    check_type(spec)
    if spec.dtype == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if spec.dtype in _INTEGERS:
        dtype = np.dtype(spec.dtype)
        upper = min(spec.upper or 2, int(np.iinfo(dtype).max) + 1)
        return rng.integers(0, upper, shape).astype(dtype)
    return rng.standard_normal(shape).astype(spec.dtype)
