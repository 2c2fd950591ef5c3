"""The scales of stored tensors, each worked out once: what a GHN predicts is made anew whenever it is asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Rows", "TensorScales"]

Rows: TypeAlias = Literal["kernels", "rows", "columns"]
"""What of a weight makes one output: all that stands under its first index, its last axis, or the one before."""


class TensorScales:
    """Norms, means and agreements by tensor; the values of one tensor are in memory at a time.

    Damaged values give infinities or NaNs.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], float] = {}
        self._kept: dict[int, ir.TensorProtocol] = {}  # so that no other tensor gets the same id
        self._last: tuple[ir.TensorProtocol, npt.NDArray[np.float32]] | None = None

    def size(self, tensor: ir.TensorProtocol) -> float:
        """Root mean square of a tensor that is not empty."""
        return self._norm(tensor) / math.sqrt(tensor.size)

    def mean(self, tensor: ir.TensorProtocol) -> float:
        """Of a tensor that is not empty."""
        known = self._known.get((id(tensor), "mean"))
        if known is None:
            with np.errstate(over="ignore", invalid="ignore"):
                known = float(self._values(tensor).reshape(-1).mean())
            self._keep(tensor, "mean", known)
        return known

    def agreement(self, tensor: ir.TensorProtocol, rows: Rows) -> float:
        """Mean square of the sums of a weight's rows over that of rows whose signs are random; 1 for zeros."""
        known = self._known.get((id(tensor), rows))
        if known is None:
            with np.errstate(over="ignore", invalid="ignore"):
                known = self._agreement(tensor, rows)
            self._keep(tensor, rows, known)
        return known

    def _norm(self, tensor: ir.TensorProtocol) -> float:
        known = self._known.get((id(tensor), "norm"))
        if known is None:
            with np.errstate(over="ignore", invalid="ignore"):
                known = float(np.linalg.norm(self._values(tensor).reshape(-1)))
            self._keep(tensor, "norm", known)
        return known

    def _agreement(self, tensor: ir.TensorProtocol, rows: Rows) -> float:
        values = self._values(tensor)
        in_order = values.flags.c_contiguous and values.ndim == 2
        if rows != "kernels":
            values = values if rows == "rows" else np.swapaxes(values, -1, -2)
            values = values.reshape(-1, values.shape[-1])
        summed = values.reshape(len(values), -1)
        # Both are sums over all rows.
        power = (self._norm(tensor) if rows == "kernels" or in_order else float(np.linalg.norm(summed))) ** 2
        return float(np.linalg.norm(summed.sum(1))) ** 2 / power if power > 0 else 1.0

    def _values(self, tensor: ir.TensorProtocol) -> npt.NDArray[np.float32]:
        if self._last is None or self._last[0] is not tensor:
            self._last = None  # before the next one is made
            self._last = (tensor, np.asarray(tensor.numpy()).astype(np.float32, copy=False))
        return self._last[1]

    def _keep(self, tensor: ir.TensorProtocol, what: str, value: float) -> None:
        self._known[id(tensor), what] = value
        self._kept[id(tensor)] = tensor
