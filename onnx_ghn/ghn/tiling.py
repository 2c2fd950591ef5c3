"""From a decoded block to a tensor of any shape: kernels, position tables, fan-in, tiling."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

__all__ = ["Block", "fan_in_factor", "position_grid", "tile_array"]

_POSITION_SIDE = 11  # (1, C, h, ...) position tables of h >= 11 are not normalised


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """A predicted tensor in small: repeating `values` along its axes gives it.

    Attributes:
        values: decoded and normalised array, no axis longer than that of `tiled`.
        tiled: shape that `values` is repeated (and cut) to.
        shape: canonical shape, of as many elements as `tiled`.
    """

    values: npt.NDArray[np.float32]
    tiled: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def is_tiled(self) -> bool:
        """Whether the predicted tensor is larger than what was decoded."""
        return self.values.shape != self.tiled

    def array(self) -> npt.NDArray[np.float32]:
        """The predicted tensor in canonical shape. A view of `values` where nothing repeats."""
        return tile_array(self.values, self.tiled).reshape(self.shape)


def tile_array(values: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """`values` repeated along each axis and cut at `shape`: element i of an axis is i modulo its length.

    The axes are filled from the last to the first, so that most of the writing copies long contiguous runs.
    """
    if 0 in shape:
        return np.empty(shape, dtype=values.dtype)
    for axis in reversed(range(len(shape))):
        size, wanted = values.shape[axis], shape[axis]
        before = (slice(None),) * axis
        if size >= wanted:
            values = values[(*before, slice(wanted))]
            continue
        out = np.empty((*values.shape[:axis], wanted, *values.shape[axis + 1 :]), dtype=values.dtype)
        whole = wanted // size * size
        # Splitting an axis keeps the memory: this writes into `out`.
        repeats = out[(*before, slice(whole))].reshape(*values.shape[:axis], -1, *values.shape[axis:])
        repeats[...] = np.expand_dims(values, axis)
        out[(*before, slice(whole, None))] = values[(*before, slice(wanted - whole))]
        values = out
    return values


def position_grid(n_positions: int) -> tuple[int, int]:
    """(side, leading) of the square grid that a table of N positions is decoded as.

    N = side² + leading for 0, 1 or 2 leading tokens (class, distillation), as in GHN-3; any other N is the
    beginning of the next larger square.
    """
    side = math.isqrt(n_positions)
    leading = n_positions - side * side
    return (side, leading) if leading <= 2 else (side + 1, 0)


def fan_in_factor(shape: tuple[int, ...], *, position: bool, repeats: int = 1) -> float:
    """The factor by which fan-in normalisation scales a weight: sqrt(beta / fan_in).

    beta is 1 for layers that no ReLU follows (recognised by one input channel, or by kernels wider than high), else 2
    (Knyazev et al. 2021, appendix B; facebookresearch/ppuda, ppuda/ghn/nn.py, `GHN._normalize`).

    Args:
        shape: canonical shape, at least 2-D.
        position: a position table; those of 11 or more rows (features where 3-D) are left as decoded.
        repeats: how often the stored tensor repeats the canonical one along its inputs.
    """
    if position and len(shape) > 2 and shape[0] == 1 and shape[2] >= _POSITION_SIDE:
        return 1.0
    fan_in = math.prod(shape[1:]) * repeats
    no_relu = len(shape) > 2 and (shape[1] == 1 or (len(shape) > 3 and shape[2] < shape[3]))
    return math.sqrt((1.0 if no_relu else 2.0) / max(fan_in, 1))
