"""Scales of stored tensors against numpy in double precision, and how often the tensors are made for them."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest

from onnx_ghn.onnx_io.tensors import LazyTensor
from onnx_ghn.prediction.tensor_scales import Rows, TensorScales


def counted(values: np.ndarray) -> tuple[LazyTensor, list[int]]:
    """A tensor that notes each time it is made."""
    made: list[int] = []

    def make() -> np.ndarray:
        made.append(1)
        return values

    return LazyTensor(make, "w", ir.DataType.FLOAT, values.shape), made


@pytest.mark.parametrize(("rows", "axes"), [("kernels", (1, 2)), ("rows", 2), ("columns", 1)])
@pytest.mark.parametrize("in_order", [True, False])
def test_scales(rows: Rows, axes: int | tuple[int, ...], in_order: bool) -> None:
    values = np.random.default_rng(0).normal(0.1, 1, (6, 5, 4)).astype(np.float32)
    if not in_order:
        values = values.transpose(1, 2, 0)
    tensor, made = counted(values)
    scales, exact = TensorScales(), values.astype(np.float64)
    for _ in range(2):
        assert scales.size(tensor) == pytest.approx(math.sqrt((exact**2).mean()), rel=1e-6)
        assert scales.mean(tensor) == pytest.approx(exact.mean(), rel=1e-5)
        expected = (exact.sum(axis=axes) ** 2).sum() / (exact**2).sum()
        assert scales.agreement(tensor, rows) == pytest.approx(expected, rel=1e-5)
    assert len(made) == 1


def test_one_tensor_is_in_memory_at_a_time_and_none_is_asked_twice() -> None:
    (first, made_first), (second, made_second) = (counted(np.full((3, 4), value, np.float32)) for value in (1, -2))
    scales = TensorScales()
    for _ in range(3):
        assert [scales.size(first), scales.size(second)] == pytest.approx([1, 2])
        assert [scales.agreement(first, "rows"), scales.agreement(second, "columns")] == pytest.approx([4, 3])
    assert (len(made_first), len(made_second)) == (2, 2)


def test_damaged_and_empty_values() -> None:
    scales = TensorScales()
    assert math.isnan(scales.size(counted(np.array([[1, np.nan]], np.float32))[0]))
    assert math.isinf(scales.size(counted(np.array([[1, np.inf]], np.float32))[0]))
    assert scales.agreement(counted(np.zeros((2, 3), np.float32))[0], "rows") == 1
