"""Inputs that the user gives for all inputs of a model: samples in a file, of any modality."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OptionError
from onnx_ghn.input_files import read_inputs

__all__ = ["GivenSamples"]


class GivenSamples:
    """The samples of a file.

    Args:
        path: see `input_files.read_arrays`; the first axis of each array counts samples.
        types: of the model's inputs, by name.
        shapes: their declared shapes, 0 where a dimension is free.

    Raises:
        OptionError: the file cannot be read, or its arrays are not such inputs.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        types: Mapping[str, npt.DTypeLike],
        shapes: Mapping[str, Sequence[int]],
    ) -> None:
        inputs = ", ".join(f"{name} [{', '.join(str(dim or '?') for dim in shapes[name])}]" for name in types)
        found = read_inputs(path, types, inputs)
        self._arrays: dict[str, Array] = {}
        for name, dtype in types.items():
            array, declared = found[name], shapes[name]
            if array.ndim != len(declared) or any(
                size != dim for size, dim in zip(array.shape[1:], declared[1:], strict=True) if dim
            ):
                raise OptionError(
                    f"{path}: {name!r} is of shape {list(array.shape)}, samples counted first; the model's inputs are "
                    f"{inputs}"
                )
            if not np.can_cast(array.dtype, dtype, "same_kind"):
                raise OptionError(
                    f"{path}: {name!r} is {array.dtype}, the model's input is {np.dtype(dtype)}; convert it"
                )
            if array.ndim and not len(array):
                raise OptionError(f"{path}: {name!r} has no samples")
            self._arrays[name] = array.astype(dtype, copy=False)

    def feed(self, offset: int, batch: int, total: int) -> dict[str, Array]:
        """Samples `offset` to `offset + batch` of `total` that are spread evenly over the file, over and over.

        An input without axes keeps its value.
        """
        picked: dict[str, Array] = {}
        for name, array in self._arrays.items():
            if not array.ndim:
                picked[name] = array
                continue
            step = max(1, len(array) // max(total, 1))
            picked[name] = array[(np.arange(offset, offset + batch) * step) % len(array)]
        return picked
