"""Against copies: a prediction is at most max_shape large and repeated in wider tensors.

Identical channels get identical gradients, so that a wide layer learns as a narrow one. Two cures are those of
Pretrained-GHN initialisation (arXiv 2207.10049): noise, and orthogonal re-initialisation. The third keeps what the
network computes: of the weights by which copies are read only their sum counts, so that their differences can be drawn
at the scale that training needs, as widened networks are told apart in HyperCloning (arXiv 2409.12903).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from onnx_ghn.prediction.fallback import tensor_rng
from onnx_ghn.prediction.options import POST_STRENGTHS, check_strength

__all__ = ["separate_copies"]

_QR_LIMIT = 4096  # rows orthogonalised at once: a larger matrix is orthogonal block by block


def separate_copies(
    values: npt.NDArray[np.float32], name: str, post: str, strength: float, seed: int, n_different: int = 0
) -> npt.NDArray[np.float32]:
    """A tiled tensor with its copies told apart.

    Args:
        values: canonical tensor, out × in (× kh × kw), or 1-D.
        name: of the parameter; with the seed it decides the random numbers.
        post: "noise": plus normal noise of `strength` × the tensor's standard deviation. "orthogonal": mixed with a
            (semi-)orthogonal matrix of the same Frobenius norm, `strength` of it; 1-D tensors get noise instead.
            "differences": plus normal noise of `strength` × He's standard deviation whose sum over the inputs that are
            copies of each other is zero; 1-D tensors stay, and where no input is a copy it is "noise" of its default.
        n_different: of "differences": input i is a copy of input i modulo this.
        strength: 0 leaves the tensor as it is; "orthogonal" takes up to 1.

    Raises:
        OptionError: an unknown `post`, or a strength out of range.
    """
    check_strength(post, strength)
    if post == "none" or strength == 0:
        return values
    rng = tensor_rng(name, seed)
    if post == "differences":
        if values.ndim < 2:
            return values
        if 0 < n_different < values.shape[1]:
            return values + _differences(values.shape, n_different, strength, rng)
        post, strength = "noise", min(strength, 1.0) * POST_STRENGTHS["noise"]
    if post == "noise" or values.ndim < 2:
        spread = float(values.std()) or 1.0
        noise = rng.standard_normal(values.shape, dtype=np.float32)
        noise *= np.float32(strength * spread)
        noise += values
        return noise
    matrix = values.reshape(values.shape[0], -1)  # (out, fan_in)
    orthogonal = _semi_orthogonal(matrix.shape, rng)
    norm = float(np.linalg.norm(matrix))
    mixed = (1 - strength) * matrix + (strength * norm / max(float(np.linalg.norm(orthogonal)), 1e-12)) * orthogonal
    mixed *= norm / max(float(np.linalg.norm(mixed)), 1e-12)
    return np.asarray(mixed.reshape(values.shape), np.float32)


def _differences(
    shape: tuple[int, ...], n_different: int, strength: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Noise whose sum over the inputs i, i + n_different, i + 2 · n_different, ... is zero; none where there is one."""
    noise = rng.standard_normal(shape, dtype=np.float32)  # out × in (× kh × kw)
    noise *= np.float32(strength * math.sqrt(2 / math.prod(shape[1:])))
    whole, n_more = divmod(shape[1], n_different)  # the first `n_more` inputs have one copy more
    if n_more:
        padded = np.empty((shape[0], (whole + 1) * n_different, *shape[2:]), np.float32)
        padded[:, : shape[1]] = noise
        noise = padded
    rows = noise.reshape(shape[0], -1, n_different, *shape[2:])  # out × copies × different (× kh × kw)
    _balance(rows[:, :, :n_more])
    _balance(rows[:, :whole, n_more:])
    return noise[:, : shape[1]]


def _balance(copies: npt.NDArray[np.float32]) -> None:
    """Let the copies along axis 1 add up to zero, in place, with the spread that they had."""
    copies -= copies.mean(axis=1, keepdims=True)
    n_copies = copies.shape[1]
    if n_copies > 1:
        copies *= np.float32(math.sqrt(n_copies / (n_copies - 1)))


def _semi_orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Orthonormal rows or columns, whichever are fewer; by blocks of at most `_QR_LIMIT` of them."""
    rows, columns = shape
    if rows > columns:
        return _semi_orthogonal((columns, rows), rng).T
    blocks = []
    for start in range(0, rows, _QR_LIMIT):
        count = min(_QR_LIMIT, rows - start)
        q, r = np.linalg.qr(rng.standard_normal((columns, count), dtype=np.float32))  # (columns, count)
        blocks.append((q * np.sign(np.diag(r))).T)
    return np.concatenate(blocks)
