"""The rate comes from the part that is not judged, and from seed 0."""

from __future__ import annotations

from racing.choice import best_rate
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
