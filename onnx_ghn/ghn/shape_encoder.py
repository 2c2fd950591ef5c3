"""What a node's shape adds to its embedding: four looked-up parts, one an axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from onnx_ghn.ghn.lookup import LookupTable
from onnx_ghn.ghn.shape_indices import ShapeIndices

__all__ = ["ShapeEncoder"]


class ShapeEncoder(nn.Module):
    """Shape embedding (Knyazev et al. 2021, appendix; facebookresearch/ppuda, ppuda/ghn/layers.py).

    Args:
        hid: features of a node embedding; each of the four axes gives a quarter.
        num_classes: joins the seen channel counts.
        max_kernel: largest kernel side that is decoded.
    """

    def __init__(self, hid: int, num_classes: int, max_kernel: int) -> None:
        super().__init__()
        self._indices = ShapeIndices(num_classes, max_kernel)
        self.embed_spatial = LookupTable(self._indices.n_kernel_rows, hid // 4)
        self.embed_channel = LookupTable(self._indices.n_channel_rows, hid // 4)

    def indices(self, shapes: Sequence[tuple[int, ...] | None]) -> npt.NDArray[np.int64]:
        """(N, 4) rows of the embedding tables for the shapes of N nodes, None for a node without one."""
        return self._indices.of(shapes)

    def forward(self, indices: Tensor) -> Tensor:
        """(N, 4) indices -> (N, hid) embedding of the shapes."""
        channels = self.embed_channel(indices[:, :2]).flatten(1)  # (N, 2, hid/4) -> (N, hid/2)
        kernels = self.embed_spatial(indices[:, 2:]).flatten(1)
        return torch.cat((channels, kernels), dim=1)
