"""Sweeps over the levels of graphs on a device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from onnx_ghn.ghn.levels import Level, Sweep, planned_sweep
from onnx_ghn.graph.model import ComputationGraph

__all__ = ["sweep_of"]


def sweep_of(
    graphs: Sequence[ComputationGraph],
    distances: Sequence[npt.NDArray[np.int32]],
    *,
    backward: bool,
    virtual: bool,
    device: torch.device,
) -> Sweep[Tensor]:
    """What `levels.planned_sweep` plans, as tensors.

    Args:
        device: where they are.
    """
    planned = planned_sweep(graphs, distances, backward=backward, virtual=virtual)
    blocks = [level.weights for level in planned.levels if level.weights is not None]
    parts: list[Tensor] = []
    if blocks:  # one tensor for all of them: one copy to the device, not one a level
        flat = torch.from_numpy(np.concatenate([block.ravel() for block in blocks])).to(device)
        pieces = flat.split_with_sizes([block.size for block in blocks])
        parts = [piece.view(block.shape) for piece, block in zip(pieces, blocks, strict=True)]
    left = iter(parts)
    levels = tuple(
        Level(level.start, level.stop, level.first, None if level.weights is None else next(left))
        for level in planned.levels
    )
    return Sweep(levels, planned.n_graphs, planned.n_slots, torch.from_numpy(planned.rows).to(device))
