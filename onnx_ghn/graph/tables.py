"""Which stored tables read as constants of the code: masks and grids."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from onnx_ghn.arrays import Array
from onnx_ghn.graph.flat import QUANTISED_TYPES, Tensor
from onnx_ghn.graph.parameter import Role

__all__ = ["HUGE", "are_sound", "looks_constant", "selects"]

HUGE = (
    1e4  # from which on nothing is trained: masks hold minus infinity, the lowest float16 (-65504) or -1e4 and beyond
)
_SAMPLE = 64
_FEWEST_DRAWN = 16  # different numbers, of which a mask has few


def looks_constant(tensor: Tensor, sample: int = 65536) -> bool:
    """Whether a stored table reads as a mask (infinite or huge entries) or a grid (several multiples of one half, or
    coordinates, each of which changes along one axis alone). A table of numbers that were drawn, some rows of which are
    a mask (an embedding of distances whose padding is minus infinity), is none.

    Nothing in an ONNX file says which constants were trained; masks and anchor grids never were. A table whose data
    file is lost counts as trained.
    """
    stored = tensor.stored
    if stored is None or stored.kind == "constant_of_shape" or stored.is_absent:
        return False
    if stored.is_sparse or tensor.dtype.startswith(("COMPLEX", "STRING")) or tensor.dtype in QUANTISED_TYPES:
        return False  # quantised weights are whole numbers, whatever they stand for
    table = np.asarray(stored.numpy())
    values = table.reshape(-1)[:sample].astype(np.float64)
    is_bound = ~(np.abs(values) < HUGE)
    if is_bound.any():
        return not _is_drawn(values[~is_bound])
    doubled = values * 2
    if bool((doubled == np.round(doubled)).all() and (values != values[:1]).any()):
        return True
    return _is_grid(table)


def selects(tensor: Tensor, *, whole: bool) -> bool:
    """Whether a stored tensor takes elements out of another one by a product: truth values, or zeros and ones.

    Args:
        whole: whether it may be of ones alone.
    """
    stored = tensor.stored
    if stored is None or stored.is_absent or stored.is_sparse or stored.is_string or math.prod(stored.shape) < 2:
        return False
    if tensor.dtype == "BOOL":
        return True
    if tensor.dtype in QUANTISED_TYPES or tensor.dtype.startswith("COMPLEX"):
        return False
    values = np.asarray(stored.numpy()).reshape(-1)
    if not _are_bits(values[:_SAMPLE]) or not _are_bits(values):  # of a large weight the first few tell
        return False
    return bool((values == 1).any()) and (whole or bool((values == 0).any()))


def _are_bits(values: Array) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def are_sound(values: Array, role: Role) -> bool:
    """Whether values are ones that training leaves: finite, but for rows of minus infinity, by which a table masks
    what it is added to.
    """
    numbers = values.astype(np.float32, copy=False)
    if role in (Role.embedding, Role.position):
        return not bool((np.isnan(numbers) | np.isposinf(numbers)).any())
    return bool(np.isfinite(numbers).all())


def _is_drawn(values: npt.NDArray[np.float64]) -> bool:
    """Whether most numbers of a table are there once. Those of a mask, or of slopes by distances, come again."""
    n_different = len(np.unique(values))
    return n_different >= _FEWEST_DRAWN and 2 * n_different > len(values)


def _is_grid(table: Array) -> bool:
    """Whether a table holds, at each place, as many coordinates as it has axes beside: (15, 15, 2), or (2, 15, 15)."""
    table = table.reshape([size for size in table.shape if size > 1])
    rank = table.ndim - 1
    if rank < 2:
        return False
    for axis in (-1, 0):
        if table.shape[axis] != rank:
            continue
        found = set()
        for coordinates in np.moveaxis(table, axis, 0):
            changes = [along for along in range(rank) if (coordinates != coordinates.take([0], axis=along)).any()]
            if len(changes) != 1:
                break
            found.add(changes[0])
        if len(found) == rank:
            return True
    return False
