"""Zeros that are part of an architecture: a file stores what is left of a weight behind a mask, or after pruning.

Exporters fold a mask into the weight that it multiplies (PixelCNN's and MADE's masked layers, block-diagonal weights),
and pruning leaves nothing but zeros. Whatever fills these places lets a network see what it must not see, or makes a
sparse one dense. No initialiser draws a zero, and training does not end at one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnx_ghn.arrays import Array
from onnx_ghn.graph import Parameter, Role

if TYPE_CHECKING:
    from onnx_ghn.onnx_io import StoredTensor
    from onnx_ghn.prediction.making import Maker
    from onnx_ghn.prediction.options import PredictOptions
    from onnx_ghn.prediction.plan import Decision
    from onnx_ghn.prediction.quantization import Quantization

__all__ = ["note_zeros", "stored_zero", "zeros_of"]

_PIECES, _WIDTH = (
    64,
    64,
)  # elements that mostly settle whether there are any; pieces are read in little time from a file
_FEWEST = 4  # zeros; fewer may be numbers that rounding made zero
_SHARE = 0.01  # of the elements that are zero, at least
_OFTEN = 8  # times as often as any other value: integers and floats of 16 bits repeat values, zero among them
_MOST = 0.5  # of the zeros that are zeros of the donor, too: its layer is masked as this one is
_AXES = 2  # of a weight or a table, at least


def stored_zero(parameter: Parameter, tensor: StoredTensor, quantization: Quantization | None = None) -> int | None:
    """The number that stands for zero, where some elements of a weight are zero by a mask or by pruning, or some rows
    of an embedding by its padding; None where none are.

    Args:
        tensor: as it is stored. Where all its elements are equal, it holds no weights.
        quantization: of one that is stored as integers, or quantised in the file.
    """
    if parameter.role not in (Role.weight, Role.embedding) or len(tensor.shape) < _AXES:
        return None
    if tensor.kind == "constant_of_shape" or tensor.is_sparse or tensor.is_string or tensor.is_absent:
        return None
    if tensor.dtype.bitwidth < 8:
        return None
    zero = 0
    if not tensor.dtype.is_floating_point():
        if quantization is None or quantization.in_file or len(points := set(quantization.zero.flat)) > 1:
            return None
        (zero,) = (int(point) for point in points)
    if parameter.role is Role.embedding and _has_rows_of(zero, parameter, tensor):
        return zero
    step = max(_WIDTH, parameter.size // _PIECES)
    with np.errstate(invalid="ignore"):  # damaged values
        sample = np.asarray(tensor.sample(step, _PIECES, _WIDTH)).astype(np.float64)
    n_zeros = int((sample == zero).sum())
    if n_zeros < max(_FEWEST, _SHARE * len(sample)) or n_zeros == len(sample):
        return None
    _, counts = np.unique(sample[sample != zero], return_counts=True)
    return zero if n_zeros >= _OFTEN * int(counts.max()) or n_zeros > len(sample) // 2 else None


def zeros_of(tensor: StoredTensor, zero: int) -> npt.NDArray[np.bool_]:
    """Where a stored tensor holds the number that stands for zero, of its shape."""
    return np.asarray(np.asarray(tensor.numpy()) == zero)


def note_zeros(decisions: Sequence[Decision], options: PredictOptions) -> list[str]:
    """Notes on the weights that are filled but for their zeros, and on those that inherit other numbers in the places
    of their zeros: what a donor learned there is not known to belong there.
    """
    makers = [d.maker for d in decisions if d.maker is not None and d.maker.original is None]
    stay = {m.stored.name: float(zeros_of(m.stored, m.zero).mean()) for m in makers if m.zero is not None}
    lost = {} if options.overwrite_special else {m.stored.name: _share_lost(m) for m in makers}
    lost = {name: share for name, share in lost.items() if share > 0}
    return [
        *_told(stay, "zeros stay in", "left them"),
        *_told(lost, "inherited numbers are in the places of zeros of", "may have left those"),
    ]


def _told(shares: Mapping[str, float], what: str, left: str) -> list[str]:
    if not shares:
        return []
    name = max(shares, key=shares.__getitem__)
    weights, most = ("1 weight", "") if len(shares) == 1 else (f"{len(shares)} weights", "most in ")
    return [
        f"{what} {weights}, where a mask, padding or pruning {left}: {most}{name}, {100 * shares[name]:.2g} % of which "
        "is zero"
    ]


def _share_lost(maker: Maker) -> float:
    """The share of elements that are zero in the model, and get numbers of a donor of which most are not."""
    if maker.source != "donor" or maker.given is None or maker.quantization is not None:
        return 0.0
    zero = stored_zero(maker.parameter, maker.stored)
    if zero is None:
        return 0.0
    given, is_zero = maker.given(), zeros_of(maker.stored, zero)
    if given.shape != is_zero.shape or float((given[is_zero] == 0).mean()) > _MOST:
        return 0.0
    return float(is_zero.mean())


def _has_rows_of(zero: int, parameter: Parameter, tensor: StoredTensor) -> bool:
    """Whether some rows of a table, and not all, are zeros: those of padding."""
    table: Array = np.asarray(parameter.layout.to_canonical(np.asarray(tensor.numpy())))
    table = table.reshape(len(table), -1)
    is_zero = [bool((table[row] == zero).all()) for row in np.flatnonzero(table[:, 0] == zero)]
    return 0 < sum(is_zero) < len(table)
