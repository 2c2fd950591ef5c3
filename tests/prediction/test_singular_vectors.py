"""The largest singular value of a matrix, by power iteration."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_ghn.prediction.singular_vectors import leading_vectors


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (16, 27), (64, 576), (200, 30)])
def test_it_is_that_of_a_decomposition(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).standard_normal(shape)
    u, v = leading_vectors(matrix)
    assert (u.shape, v.shape) == ((shape[0],), (shape[1],))
    assert np.linalg.norm(u) == pytest.approx(1)
    assert np.linalg.norm(v) == pytest.approx(1)
    assert u @ matrix @ v == pytest.approx(np.linalg.svd(matrix)[1][0], rel=1e-4)


def test_zeros_have_none() -> None:
    u, v = leading_vectors(np.zeros((4, 3)))
    assert np.isfinite(u).all()
    assert np.isfinite(v).all()
