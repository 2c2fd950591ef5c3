"""Tables that were computed and never drawn, told by value: filter banks, masks, windows, sines, colour matrices,
filters that read the same from both ends, numbers in order, masks.

Nothing in an ONNX file says so, and no initialiser draws such values. Each test takes numbers that would be a
coincidence in weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnx_ghn.arrays import Array
from onnx_ghn.graph import Parameter, Role
from onnx_ghn.graph.parameter import SCORES

if TYPE_CHECKING:
    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["LARGEST_TABLE", "fixed_table", "may_mask"]

_SAMPLE = 4096  # elements that mostly settle whether a table is sparse
_SMALLEST = 16  # elements; of fewer, half may be zero by rounding
LARGEST_TABLE = 1 << 24  # elements of the tables that are looked at as a whole
_WINDOW = 8  # elements of the shortest window
_PAIRS = 3  # of sines and cosines, the fewest that are no coincidence
_COLUMNS = 4  # that mostly settle whether rows are sines
_VARIED = 3  # columns in which sines differ from row to row, the fewest that are no coincidence
_CLOSE = 1e-4
_FLAT = 0.1  # share of a window's largest value that its values span at least
_MIRRORED = 3  # pairs of elements that mirror each other, the fewest that are no coincidence
_ROWS = 16  # that mostly settle whether the rows of a table are mirrored, or signs
_SIGNS = 8  # numbers of one size in a row, the fewest that are no coincidence
_IN_ORDER = 12  # different numbers in order, the fewest that are no coincidence: 2 / 12! of drawn ones are
_WAVES = 12  # rows of waves, the fewest that are no coincidence
_SAMPLE_COLUMNS = 64  # that mostly settle whether rows are waves
_BEND = 0.1  # share of neighbouring rows by which the row between lies off their middle, at least, where they are waves
_COUNTED = 4  # whole numbers that count, the fewest that are no coincidence


def fixed_table(parameter: Parameter, values: Array) -> str:
    """What kind of table a tensor is; empty for what may have been drawn, or trained.

    Args:
        values: of the tensor's stored shape, in floats.
    """
    is_bfloat16 = values.dtype.name == "bfloat16"  # no floating type to numpy
    if values.size > LARGEST_TABLE or not (is_bfloat16 or np.issubdtype(values.dtype, np.floating)):
        return ""
    close = _CLOSE
    if values.dtype.itemsize == 2:  # each number was rounded, which sums of two squares show four times at most
        close = 4 * 2.0 ** (-8 if is_bfloat16 else -11)
        values = values.astype(np.float32)
    with np.errstate(all="ignore"):  # damaged values
        kind = _kind(parameter, values, close)
    # Mostly it is none, and most of the elements were not looked at.
    return kind if kind and bool(np.isfinite(values).all()) else ""


def may_mask(parameter: Parameter, tensor: StoredTensor) -> bool:
    """Whether a tensor is added to attention scores, and all zeros or, where a tool quantised it, of two integers.

    It masks nothing or all that a model is not to see, once the exporter's marks are gone; or it is a bias that nobody
    trained, which may stay as well.
    """
    if parameter.reason != SCORES or tensor.is_sparse or tensor.is_absent or parameter.size > LARGEST_TABLE:
        return False
    values = np.unique(tensor.numpy())
    return len(values) <= 2 if "int" in parameter.dtype else not values.any()


def _kind(parameter: Parameter, values: Array, close: float) -> str:
    """What kind of table a tensor would be, if all its values were numbers.

    Args:
        close: share of the largest number by which numbers that are one may differ, as they were rounded.
    """
    shape = parameter.layout.canonical
    if parameter.role in (Role.weight, Role.norm_scale) and _is_mask(values):
        return "zeros and ones, as a mask"
    if max(values.shape, default=0) == values.size and _is_in_order(values.reshape(-1)):
        return "numbers in order, as in a schedule or of frequencies"
    if parameter.role is Role.norm_scale:
        return "a window: it reads the same from both ends" if _is_window(values.reshape(-1)) else ""
    if parameter.role not in (Role.weight, Role.embedding, Role.position):
        return ""
    if _is_sparse(values):
        return "more than half of its elements are exactly zero, as in a filter bank, a mask or a pruned layer"
    table = np.asarray(parameter.layout.to_canonical(values)).reshape(shape[0], -1)
    if parameter.role is Role.position and shape[0] == 1 and len(shape) > 2:
        table = table.reshape(shape[1], -1)
    if _has_one_row(table):
        return "all its rows are the same, as in a fixed filter"
    if parameter.role is Role.weight and _is_signs(table):  # whose squares are the same, as those of sines and cosines
        return "each of its rows is one number but for signs and zeros, as binary and ternary weights are"
    if _is_sines(table, close) or _is_sines(table.T, close):
        return "sines and cosines"
    if _has_rows_in_order(table) or _has_rows_in_order(table.T):
        return "its rows are numbers in order, as powers of time are"
    if parameter.role is Role.weight:
        if _is_colour(table):
            return "a colour matrix: its rows add up to 0 or 1"
        # Kernels one by one; of a matrix either axis may be the one along which a wave was sampled.
        length = math.prod(shape[2:])
        kernels = table if length == 1 else table.reshape(-1, length)
        if _are_mirrored(kernels) or (length == 1 and _are_mirrored(table.T)):
            return "filters: they read the same from both ends, but for the sign"
        if _are_waves(table, close) or _are_waves(table.T, close):
            return "waves whose frequencies rise evenly, as in a Fourier transform"
    return ""


def _is_sparse(values: Array) -> bool:
    flat = values.reshape(-1)
    if flat.size < _SMALLEST:
        return False
    sample = flat[:: max(1, flat.size // _SAMPLE)]
    return float((sample == 0).mean()) > 0.25 and float((flat == 0).mean()) > 0.5


def _is_mask(values: Array) -> bool:
    """Whether a vector has zeros and ones and nothing else: half of the inputs of a coupling layer (RealNVP)."""
    if values.size < 2 or values.size != max(values.shape):
        return False
    ones = int(np.count_nonzero(values == 1))
    return 0 < ones < values.size and ones + int(np.count_nonzero(values == 0)) == values.size


def _has_rows_in_order(table: Array) -> bool:
    """Whether all rows rise or fall throughout, or are of one number, as in a basis of polynomials (N-BEATS).

    A drawn row of n numbers is in order at a chance of 2 / n!; together they have to be as unlikely as one row is that
    `_is_in_order` takes.
    """
    if table.shape[1] < _COUNTED:
        return False
    few = np.diff(table[:, :_COUNTED], axis=1)  # mostly these tell
    if not bool(((few > 0).all(axis=1) | (few < 0).all(axis=1) | (few == 0).all(axis=1)).all()):
        return False
    steps = np.diff(table, axis=1)
    is_one = (steps == 0).all(axis=1)
    if not bool((is_one | (steps > 0).all(axis=1) | (steps < 0).all(axis=1)).all()):
        return False
    chance = math.log(2) - math.lgamma(table.shape[1] + 1)  # of a row
    return int((~is_one).sum()) * chance <= math.log(2) - math.lgamma(_IN_ORDER + 1)


def _has_one_row(table: Array) -> bool:
    """Whether several rows, of several different numbers each, are all the same."""
    rows, columns = table.shape
    if rows < 2 or columns < 4 or not bool((table[1] == table[0]).all()) or bool((table[0] == table[0, 0]).all()):
        return False
    return bool((table == table[0]).all())


def _is_signs(table: Array) -> bool:
    """Whether each row, of several numbers, holds one number alone and its negative, or zeros beside them."""
    if table.shape[1] < _SIGNS:
        return False
    return _are_signs(table[:_ROWS]) and _are_signs(table)


def _are_signs(table: Array) -> bool:
    sizes = np.abs(table)
    largest = sizes.max(axis=1, keepdims=True)
    return bool(largest.any() and (((sizes == largest) | (sizes == 0)).all()))


def _is_sines(table: Array, close: float) -> bool:
    """Whether the rows come in pairs whose squares add up to one envelope: 1, or a window."""
    rows, columns = table.shape
    if rows % 2 or rows < 2 * _PAIRS or columns < 4 or float(np.abs(table[0]).max()) > 1 + close:
        return False
    return any(_have_one_envelope(*pairs, close) for pairs in _pairs(table))


def _have_one_envelope(first: Array, second: Array, close: float) -> bool:
    """Whether the sums of squares of pairs of rows are the same for all pairs, within a share of the largest sum, and
    the rows are not. Those of kernels that pass their input on are the same, too: a skip was merged into them, beside a
    layer scale near zero.
    """
    # (pairs, columns); mostly a few columns tell, and the sums of all need not be worked out. Where the sums are the
    # same, those of one pair tell how large they are.
    step = max(1, first.shape[1] // _COLUMNS)
    few, one = _envelope(first[:, ::step], second[:, ::step]), _envelope(first[1], second[1])
    if float(np.abs(few - few[1]).max()) >= 2 * close * float(one.max()):
        return False
    envelope = _envelope(first, second)
    largest = float(envelope.max())
    if largest == 0 or float(np.abs(envelope - envelope[1]).max()) >= close * largest:
        return False
    return int((np.ptp(first, axis=0) > close * math.sqrt(largest)).sum()) >= _VARIED


def _pairs(table: Array) -> Iterator[tuple[Array, Array]]:
    """(2 n, columns) -> the rows of the two halves, then neighbours."""
    half = len(table) // 2
    yield table[:half], table[half:]
    yield table[0::2], table[1::2]


def _envelope(first: Array, second: Array) -> Array:
    envelope: Array = first.astype(np.float64) ** 2 + second.astype(np.float64) ** 2
    return envelope


def _are_waves(table: Array, close: float) -> bool:
    """Whether rows are cosines, or sines, of one frequency more each, under one window whatever that is.

    cos((k + 1) x) + cos((k - 1) x) = 2 cos(x) cos(k x), and so with sines: the sums of the neighbours of two rows are
    to these as 2 cos(x), which the rows have in common. Those at either end (of a cosine transform, the scale of the
    first row) may be others.
    """
    if len(table) < _WAVES or table.shape[1] < _WAVES:
        return False
    middle, step = len(table) // 2, max(1, table.shape[1] // _SAMPLE_COLUMNS)
    few = table[middle - 3 : middle + 3, ::step]  # mostly these tell
    return _agree_on_waves(few, close) and _agree_on_waves(table[1:-1], close)


def _agree_on_waves(rows: Array, close: float) -> bool:
    rows = rows.astype(np.float64)
    sums = rows[2:] + rows[:-2]  # (rows - 2, columns), of the neighbours of rows[1:-1]
    left, right = sums[:-1] * rows[2:-1], sums[1:] * rows[1:-2]
    bend = np.linalg.norm(sums - 2 * rows[1:-1]) > _BEND * np.linalg.norm(sums)  # else in a straight line, or equal
    size = np.linalg.norm(left)
    return bool(bend and size > 0 and np.linalg.norm(left - right) <= max(10 * _CLOSE, close) * size)


def _is_window(values: Array) -> bool:
    """Whether a vector of different numbers is symmetric, as it is or, as of a periodic window, without its first.

    Numbers that are nearly one, as the scales of a norm after a few steps, are symmetric by rounding.
    """
    largest = float(np.abs(values).max(initial=0))
    if values.size < _WINDOW or float(np.ptp(values)) <= _FLAT * largest:
        return False
    tolerance = _CLOSE * largest
    return any(bool((np.abs(part - part[::-1]) <= tolerance).all()) for part in (values, values[1:]))


def _is_in_order(values: Array) -> bool:
    """Whether a vector of many different numbers never falls, or never rises; or counts, as the bins of a box do."""
    steps = np.diff(values)
    if len(values) >= _COUNTED and steps[0] and (steps == steps[0]).all() and (values == np.round(values)).all():
        return True
    return bool((steps >= 0).all() or (steps <= 0).all()) and int((steps != 0).sum()) >= _IN_ORDER - 1


def _are_mirrored(kernels: Array) -> bool:
    """Whether at least half of the rows read the same from both ends, or the same with the other sign.

    So do low passes, blurs, edges, cosines and sines under a window (the kernels of a Fourier transform or a constant-Q
    transform, some of which lie half a step beside their middle), and the rows of cosine transforms. Zeros around a
    filter do not count, nor does the first element of a periodic window; rows of one number say nothing.
    """
    rows, columns = kernels.shape
    if columns < 3:
        return False
    few = kernels[np.linspace(0, rows - 1, min(rows, _ROWS)).astype(int)]
    if not any(map(_mirrored_pairs, few[_end_alike(few)])):
        return False
    is_alike = _end_alike(kernels)
    found = [n for n in map(_mirrored_pairs, kernels[is_alike]) if n is not None]
    n_rows = len(found) + int((~is_alike).sum())
    return 2 * sum(n > 0 for n in found) >= n_rows and sum(found) >= _MIRRORED


def _end_alike(rows: Array) -> npt.NDArray[np.bool_]:
    """Which rows may read the same from both ends, told by the ends alone; drawn ones hardly ever do."""
    first, second, last = np.abs(rows[:, [0, 1, -1]]).T
    tolerance = _CLOSE * np.abs(rows).max(axis=1)
    is_near = (np.abs(first - last) <= tolerance) | (np.abs(second - last) <= tolerance)
    return np.asarray(is_near | (first == 0) | (second == 0) | (last == 0))


def _mirrored_pairs(row: Array) -> int | None:
    """How many pairs of elements of a filter mirror each other, 0 where some do not; None for a row of one number.

    Pairs near zero, beside a single large element say, do not count.
    """
    places = np.flatnonzero(row)
    inner = row[places[0] : places[-1] + 1] if places.size else row[:0]
    tolerance = _CLOSE * float(np.abs(inner).max(initial=0))
    if inner.size < 3 or float(np.ptp(row)) <= tolerance:
        return None
    for part in (inner, row, row[1:]):
        back = part[::-1]
        if any(bool((np.abs(part - sign * back) <= tolerance).all()) for sign in (1, -1)):
            return int((np.abs(part[: part.size // 2]) > tolerance).sum())
    return 0


def _is_colour(table: Array) -> bool:
    """Whether three channels become one or three by weights of the eye, or by a change of colour space."""
    rows, columns = table.shape
    if columns != 3 or rows not in (1, 3):
        return False
    sums = table.astype(np.float64).sum(axis=1)
    return math.isclose(float(sums[0]), 1, abs_tol=1e-3) and all(
        min(abs(float(total)), abs(float(total) - 1)) < 1e-3 for total in sums
    )
