"""The rate comes from the part that is not judged, and from seed 0."""

from __future__ import annotations

import pytest
from racing.choice import allowed_rates, at_edge, best_rate, missing_rates
from racing.rows import Row

RATES = (0.1, 0.01)


def row(rate: float, choosing: float | None, judged: float, *, seed: int = 0, failed: str = "") -> Row:
    return Row(
        "net", "kind", "task", "small", "accuracy %", "own", rate, seed, 8, "sgd",
        judged=(judged,) * 3, choosing=(0.0, 0.0, choosing), failed=failed,
    )  # fmt: skip


def test_judged_scores_and_other_seeds_choose_nothing() -> None:
    rows = [row(0.1, 60.0, 99.0), row(0.01, 61.0, 1.0), row(0.1, 99.0, 99.0, seed=1)]
    assert best_rate(rows, RATES) == 0.01
    swapped = [row(0.1, 60.0, 1.0), row(0.01, 61.0, 99.0)]
    assert best_rate(swapped, RATES) == 0.01


def test_a_diverged_run_is_worse_than_any_other() -> None:
    assert best_rate([row(0.1, None, 0.0), row(0.01, -30.0, 0.0)], RATES) == 0.01


def test_nothing_is_chosen_before_all_rates_ran() -> None:
    assert best_rate([row(0.1, 60.0, 60.0)], RATES) is None
    assert best_rate([row(rate, None, 0.0, failed="no such operator") for rate in RATES], RATES) is None


def test_the_grid_grows_where_its_end_is_best_and_only_there() -> None:
    grid = (0.1, 0.0316, 0.01)
    assert allowed_rates(grid) == (*grid, 0.32, 1.0, 0.0032, 0.001)
    assert missing_rates([], grid) == grid
    inner = [row(0.1, 50.0, 0.0), row(0.0316, 60.0, 0.0), row(0.01, 40.0, 0.0)]
    assert (missing_rates(inner, grid), at_edge(inner, grid)) == ((), False)
    rising = [row(0.1, 70.0, 0.0), *inner[1:]]
    assert missing_rates(rising, grid) == (0.32,)
    assert missing_rates([*rising, row(0.32, 65.0, 0.0)], grid) == ()
    assert best_rate([*rising, row(0.32, 65.0, 0.0)], grid) == 0.1
    further = [*rising, row(0.32, 75.0, 0.0)]
    assert missing_rates(further, grid) == (1.0,)
    diverged = [*further, row(1.0, None, 0.0)]
    assert (missing_rates(diverged, grid), best_rate(diverged, grid), at_edge(diverged, grid)) == ((), 0.32, False)
    whole = [*further, row(1.0, 80.0, 0.0)]
    assert (missing_rates(whole, grid), best_rate(whole, grid), at_edge(whole, grid)) == ((), 1.0, True)


@pytest.mark.parametrize("seed", [0, 1])
def test_rates_far_from_the_grid_choose_nothing(seed: int) -> None:
    rows = [row(0.1, 60.0, 0.0), row(0.01, 61.0, 0.0), row(7.0, 99.0, 0.0), row(0.32, 99.0, 0.0, seed=seed)]
    assert best_rate(rows, RATES) == (0.32 if seed == 0 else 0.01)
