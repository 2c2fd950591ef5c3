"""The value that all elements of a stored tensor have: a fill, a start from zeros or ones, a stripped weight."""

from __future__ import annotations

import math

import numpy as np

from onnx_ghn.onnx_io.stored import StoredTensor
from onnx_ghn.onnx_io.tensors import FillTensor

__all__ = ["common_value"]

_SAMPLE = 4096  # elements that mostly settle whether all are equal


def common_value(tensor: StoredTensor) -> float | None:
    """The value of all elements; None where two differ, where there are none, where they are no real numbers, and where
    the file with the data is lost.
    """
    if tensor.is_string or tensor.is_sparse or tensor.is_absent or math.prod(tensor.shape) == 0:
        return None
    if tensor.dtype.name.startswith("COMPLEX"):
        return None
    if isinstance(tensor.tensor, FillTensor):  # one value, however large it is declared
        return float(tensor.tensor.fill)
    sample = tensor.sample(1, _SAMPLE)
    first = sample[0]
    return float(first) if bool((sample == first).all() and (np.asarray(tensor.numpy()) == first).all()) else None
