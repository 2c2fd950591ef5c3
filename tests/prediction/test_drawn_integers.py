"""Integers that are drawn for inputs."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_ghn.prediction.calibration_inputs import input_batches


@pytest.mark.parametrize(("kind", "rows", "most"), [("int64", 5000, 4999), ("int8", 5000, 127), ("bool", 2, 1)])
def test_drawn_integers_are_spread_over_the_rows(kind: str, rows: int, most: int) -> None:
    batches = input_batches({"x": f"tensor({kind})"}, {"x": [0, 600]}, "noise", 0, 8, {"x": rows})
    (feed,) = next(batches)
    values = feed["x"].astype(np.int64)
    assert values.min() == 0
    assert 0.98 * most <= values.max() <= most
    (plain,) = next(input_batches({"x": "tensor(int64)"}, {"x": [0, 600]}, "noise", 0, 8))
    assert set(np.unique(plain["x"])) == {0, 1}
