"""Random values for an input of a model."""

from __future__ import annotations

import math

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OptionError
from onnx_ghn.limits import gib, memory_bytes
from onnx_ghn.profiling.specs import InputSpec

__all__ = ["FLOATS", "INTEGERS", "random_array"]

#: Types of which values are made up, beside truth values.
FLOATS = ("float16", "float32", "float64")
INTEGERS = tuple(f"{sign}{bits}" for sign in ("int", "uint") for bits in (8, 16, 32, 64))


def random_array(rng: np.random.Generator, spec: InputSpec, shape: tuple[int, ...]) -> Array:
    """Standard normal floats; integers below the rows of the table that they index, else 0 and 1.

    Raises:
        OptionError: a type that numpy does not feed, or more than half of the machine's memory.
    """
    needed_bytes = math.prod(shape) * 12  # drawn in float64, fed as float32 at least
    if needed_bytes > memory_bytes() / 2:
        raise OptionError(
            f"input {spec.name} {list(shape)} needs {gib(needed_bytes)}, more than half of this machine's memory"
        )
    if spec.dtype == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if spec.dtype in INTEGERS:
        dtype = np.dtype(spec.dtype)
        upper = min(spec.upper or 2, int(np.iinfo(dtype).max) + 1)
        return rng.integers(0, upper, shape).astype(dtype)
    if spec.dtype in FLOATS:
        return rng.standard_normal(shape).astype(spec.dtype)
    raise OptionError(
        f"input {spec.name!r} is of type {spec.dtype}, which numpy cannot feed; give an input file in `inputs`"
    )
