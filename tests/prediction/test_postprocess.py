"""Copies told apart: in tiled tensors, and in no others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predict_models import mlp, tiny_ghn

from onnx_ghn import predict
from onnx_ghn.prediction.postprocess import separate_copies

TILE = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([(), (3, 3)]), st.integers(0, 2**40))
def test_orthogonal(rows: int, columns: int, kernel: tuple[int, ...], seed: int) -> None:
    values = np.random.default_rng(1).standard_normal((rows, columns, *kernel)).astype(np.float32)
    norm = np.linalg.norm(values)
    for strength in (0.3, 1.0):
        mixed = separate_copies(values, "w", "orthogonal", strength, seed)
        assert mixed.shape == values.shape
        assert mixed.dtype == np.float32
        assert np.linalg.norm(mixed) == pytest.approx(norm, rel=1e-4)
    matrix = separate_copies(values, "w", "orthogonal", 1.0, seed).reshape(rows, -1)
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    gram = matrix @ matrix.T
    np.testing.assert_allclose(gram, np.eye(len(gram)) * norm**2 / len(gram), atol=1e-4 * norm**2)


def test_more_rows_than_are_orthogonalised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_ghn.prediction.postprocess._QR_LIMIT", 16)
    values = np.ones((40, 48), np.float32)
    matrix = separate_copies(values, "w", "orthogonal", 1.0, 0).astype(np.float64)
    scale = np.linalg.norm(matrix[0])
    for start in (0, 16, 32):
        block = matrix[start : start + 16] / scale
        np.testing.assert_allclose(block @ block.T, np.eye(len(block)), atol=1e-5)
    assert np.linalg.matrix_rank(matrix) == 40


@pytest.mark.parametrize("post", ["noise", "orthogonal"])
def test_copies_differ(post: str) -> None:
    tiled = np.tile(TILE, (3, 2))
    new = separate_copies(tiled, "w", post, 0.3, 0)
    assert len(np.unique(new, axis=0)) == 24
    assert len(np.unique(new, axis=1).T) == 16
    np.testing.assert_array_equal(tiled, np.tile(TILE, (3, 2)))  # what was given stays


def test_noise_is_as_strong_as_asked() -> None:
    tiled = np.tile(TILE, (64, 64))
    for strength in (0.1, 1.0):
        added = separate_copies(tiled, "w", "noise", strength, 0) - tiled
        assert added.std() == pytest.approx(strength * tiled.std(), rel=0.02)
        assert abs(added.mean()) < 0.01 * strength
    assert (separate_copies(np.zeros(16, np.float32), "b", "noise", 0.1, 0) != 0).all()


@pytest.mark.parametrize("post", ["noise", "orthogonal"])
def test_strength_zero_and_seeds(post: str) -> None:
    tiled = np.tile(TILE, (3, 2))
    np.testing.assert_array_equal(separate_copies(tiled, "w", post, 0.0, 0), tiled)
    np.testing.assert_array_equal(separate_copies(tiled, "w", post, 0.5, 7), separate_copies(tiled, "w", post, 0.5, 7))
    assert not np.array_equal(separate_copies(tiled, "w", post, 0.5, 7), separate_copies(tiled, "w", post, 0.5, 8))
    assert not np.array_equal(separate_copies(tiled, "w", post, 0.5, 7), separate_copies(tiled, "v", post, 0.5, 7))


@pytest.mark.parametrize("post", ["noise", "orthogonal"])
def test_only_tiled_tensors_change(post: str) -> None:
    """The tiny GHN decodes 8 × 8: the first matrix is 8 × 4, the second 20 × 8."""
    proto = mlp(n_in=4, width=8, n_out=20)
    plain, other = predict(proto, ghn=tiny_ghn()), predict(proto, ghn=tiny_ghn(), post=post)
    zero = predict(proto, ghn=tiny_ghn(), post=post, post_strength=0)
    changed = {name for name in plain if not np.array_equal(plain[name], other[name])}
    assert changed == {"w2", "b2"}
    for name in plain:
        np.testing.assert_array_equal(plain[name], zero[name])


def rounded_rank(matrix: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(matrix, tol=1e-3 * np.linalg.norm(matrix, 2)))


@pytest.mark.parametrize(("rows", "columns", "kernel"), [(24, 32, ()), (24, 32, (3, 3)), (8, 16, (1, 1)), (40, 24, ())])
def test_differences_keep_what_is_computed_of_copies(rows: int, columns: int, kernel: tuple[int, ...]) -> None:
    block = np.random.default_rng(0).standard_normal((8, 8, *kernel)).astype(np.float32)
    tiled = np.tile(block, (rows // 8, columns // 8, *[1] * len(kernel)))
    new = separate_copies(tiled, "w", "differences", 1.0, 3, 8)
    inputs = np.random.default_rng(1).standard_normal((8, *kernel))
    copied = np.concatenate([inputs] * (columns // 8))  # input i is a copy of input i modulo 8
    axes = list(range(1, tiled.ndim)), list(range(copied.ndim))
    np.testing.assert_allclose(np.tensordot(new, copied, axes), np.tensordot(tiled, copied, axes), rtol=0, atol=2e-4)
    spread = np.sqrt(2 / (columns * np.prod(kernel, initial=1)))  # He et al. 2015
    assert (new - tiled).std() == pytest.approx(spread, rel=0.15)
    assert rounded_rank(new.reshape(rows, -1)) == min(rows, new[0].size)
    assert rounded_rank(tiled.reshape(rows, -1)) == 8


def test_where_no_input_is_a_copy_differences_are_noise() -> None:
    tiled = np.tile(TILE, (3, 1))
    new = separate_copies(tiled, "w", "differences", 1.0, 0, 8)
    np.testing.assert_array_equal(new, separate_copies(tiled, "w", "noise", 0.1, 0))
    scale = np.ones(16, np.float32)
    assert separate_copies(scale, "b", "differences", 1.0, 0, 8) is scale


def test_inputs_that_are_no_copies_stay_as_they_are() -> None:
    tiled = np.tile(TILE, (3, 2))[:, :12]  # inputs 4 to 7 are read once
    added = separate_copies(tiled, "w", "differences", 1.0, 0, 8) - tiled
    assert not added[:, 4:8].any()
    np.testing.assert_allclose(added[:, :4], -added[:, 8:], rtol=0, atol=1e-6)
