"""Einsum against a loop that multiplies one product after the other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from onnx_ghn.profiling.einsum_counts import einsum_macs


def pairwise(terms: list[str], output: str, arrays: list[np.ndarray]) -> tuple[np.ndarray, int]:
    """The result, and how many products were summed; operands from left to right, without `...`."""
    sizes = {
        label: size
        for term, array in zip(terms, arrays, strict=True)
        for label, size in zip(term, array.shape, strict=True)
    }
    held, value, n = terms[0], arrays[0], 0
    for number in range(1, len(terms)):
        right = terms[number]
        labels = sorted({*held, *right})
        rest = {*output, *"".join(terms[number + 1 :])}
        kept = "".join(label for label in labels if label in rest)
        result = np.zeros([sizes[label] for label in kept])
        for index in itertools.product(*(range(sizes[label]) for label in labels)):
            at = dict(zip(labels, index, strict=True))
            left_value = value[tuple(at[label] for label in held)]
            result[tuple(at[label] for label in kept)] += (
                left_value * arrays[number][tuple(at[label] for label in right)]
            )
            n += 1
        held, value = kept, result
    return np.einsum(f"{held}->{output}", value), n


@pytest.mark.parametrize(
    ("equation", "spelt", "shapes"),
    [
        ("ij,jk->ik", "ij,jk->ik", [(3, 4), (4, 5)]),
        ("ij,jk,kl->il", "ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
        ("bi,ij,bj->b", "bi,ij,bj->b", [(2, 3), (3, 4), (2, 4)]),
        ("...ij,...jk->...ik", "abij,abjk->abik", [(2, 3, 4, 2), (2, 3, 2, 5)]),
        ("...j,jk->...k", "abj,jk->abk", [(2, 3, 4), (4, 5)]),
        ("ij , jk", "ij,jk->ik", [(3, 4), (4, 2)]),
        ("i,j,k->ijk", "i,j,k->ijk", [(2,), (3,), (4,)]),
    ],
)
def test_against_a_loop(equation: str, spelt: str, shapes: list[tuple[int, ...]]) -> None:
    left, _, output = spelt.partition("->")
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in shapes]
    value, n = pairwise(left.split(","), output, arrays)
    np.testing.assert_allclose(value, np.einsum(equation, *arrays))  # the loop computes what it counts
    assert einsum_macs(equation, shapes) == n


def test_broadcast_dimensions() -> None:
    # Two batches of three products of 4 × 2 by 2 × 5, one of the factors shared by the batches.
    assert einsum_macs("...ij,...jk->...ik", [(2, 3, 4, 2), (1, 3, 2, 5)]) == 2 * 3 * 4 * 2 * 5
    assert einsum_macs("...ij,...jk->...ik", [(3, 4, 2), (6, 3, 2, 5)]) == 6 * 3 * 4 * 2 * 5


def test_one_operand_is_only_summed() -> None:
    assert einsum_macs("ii->i", [(4, 4)]) == 0
    assert einsum_macs("...ij->...ji", [(2, 3, 4)]) == 0


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("ij,jk->ik", [(3, 4)]), ("ij,jk->ik", [(3, 4, 5), (4, 5)]), ("ij,jk->ik", [(3, 4), (6, 5)])],
)
def test_what_does_not_fit_is_unknown(equation: str, shapes: list[tuple[int, ...]]) -> None:
    assert einsum_macs(equation, shapes) is None
