"""The regression against functions that are known, and its closed forms against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_ghn.properties.machine.regression import _kernel, _solved, fit_smooth


def test_a_line_is_found_from_few_points() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 20, (40, 2))
    smooth = fit_smooth(x, 3 + 0.5 * x[:, 0] - 0.25 * x[:, 1])
    new = rng.uniform(2, 18, (20, 2))
    np.testing.assert_allclose(smooth(new), 3 + 0.5 * new[:, 0] - 0.25 * new[:, 1], atol=0.02)


def test_it_follows_a_floor_and_a_slope() -> None:
    """The logarithm of a floor and something proportional: flat, then straight."""

    def log_time(x: np.ndarray) -> np.ndarray:
        return np.log(2 + 2**x / 1e3)

    x = np.random.default_rng(1).uniform(0, 20, 120)
    smooth = fit_smooth(x[:, None], log_time(x))
    new = np.linspace(1, 19, 50)
    np.testing.assert_allclose(smooth(new[:, None]), log_time(new), atol=0.05)


def test_beyond_what_was_measured_it_stays() -> None:
    x = np.linspace(0, 10, 60)[:, None]
    smooth = fit_smooth(x, 0.7 * x[:, 0] + 0.1 * np.sin(x[:, 0]))
    near, far = smooth(np.array([[10.0], [30.0]]))
    assert near == far == pytest.approx(7 + 0.1 * np.sin(10), abs=0.05)
    np.testing.assert_allclose(smooth.beyond(np.array([[4.0], [10.0], [12.5]])), [0, 0, 2.5], atol=1e-9)


def test_leaving_one_out_is_what_fitting_the_others_gives() -> None:
    rng = np.random.default_rng(2)
    x, y, lengths = rng.standard_normal((15, 3)), rng.standard_normal(15), np.array([1.0, 2.0, 3.0])
    _, errors = _solved(x, y, lengths, 0.1)
    for left in range(15):
        rest = np.arange(15) != left
        dual = np.linalg.solve(_kernel(x[rest], x[rest], lengths) + 0.1 * np.eye(14), y[rest])
        assert errors[left] == pytest.approx(y[left] - (_kernel(x[left : left + 1], x[rest], lengths) @ dual)[0])


def test_the_kernel_is_one_at_a_point_and_falls() -> None:
    x = np.array([[0.0], [1.0], [5.0]])
    found = _kernel(x, x, np.array([1.0]))
    np.testing.assert_allclose(np.diag(found), 1)
    r = np.sqrt(5.0)
    assert found[0, 1] == pytest.approx((1 + r + r**2 / 3) * np.exp(-r))
    assert found[0, 2] < found[0, 1]


def test_without_measurements_it_is_nothing() -> None:
    smooth = fit_smooth(np.zeros((0, 1)), np.zeros(0))
    np.testing.assert_allclose(smooth(np.array([[4.0]])), 0)


def test_without_sizes_it_is_the_mean() -> None:
    smooth = fit_smooth(np.zeros((4, 0)), np.array([1.0, 2.0, 3.0, 6.0]))
    np.testing.assert_allclose(smooth(np.zeros((2, 0))), 3.0)
