"""Where a small kernel lies in the largest that a GHN decodes."""

from __future__ import annotations

import math

from onnx_ghn.ghn.config import KernelSlice

__all__ = ["kernel_span"]


def kernel_span(size: int, largest: int, where: KernelSlice) -> slice:
    """Which of `largest` kernel positions a kernel of `size` takes along one axis (all if it is larger).

    corner: the first (PPUDA). centre: around largest // 2, an even kernel one more before it than behind
    (SamsungSAILMontreal/ghn3, ghn3/nn.py, `ConvDecoder3.forward`).
    """
    size = min(size, largest)
    if where == "corner":
        return slice(0, size)
    middle = largest // 2
    return slice(middle - size // 2, middle + math.ceil(size / 2))
