"""The tables' arithmetic, against numpy on rows that were made up."""

from __future__ import annotations

import numpy as np
import pytest
from racing.rows import Row
from racing.summary import compare, results
from racing.table import tables

GRIDS = {"a": (0.1, 0.01, 0.001), "b": (0.1, 0.01, 0.001)}


def made_up(*, seeds: dict[str, int] | None = None) -> tuple[list[Row], dict[tuple[str, str], np.ndarray]]:
    """Rows, and what was judged at the middle rate, (seeds, marks), by network and start; 0.01 chooses best."""
    generator = np.random.default_rng(0)
    rows, truth = [], {}
    for network, kind, level in (("a", "2-D", 60.0), ("b", "1-D", 30.0)):
        for start, gain in (("own", 0.0), ("all", 4.0 if network == "a" else -6.0), ("lsuv", 0.5)):
            n = (seeds or {}).get(start, 3)
            values = level + gain + generator.normal(0, 1, (n, 3))
            truth[network, start] = values
            for seed in range(n):
                for rate in GRIDS[network] if seed == 0 else (0.01,):
                    judged = tuple(values[seed]) if rate == 0.01 else (99.0, 99.0, 99.0)
                    choosing = (0.0, 0.0, 50.0 if rate == 0.01 else 40.0)
                    row = Row(
                        network, kind, "task", "small", "accuracy %", start, rate, seed, 100, "sgd", (25, 50, 100),
                        judged, choosing,
                    )  # fmt: skip
                    rows.append(row)
    return rows, truth


def test_means_and_errors_are_over_the_seeds_at_the_chosen_rate() -> None:
    rows, truth = made_up()
    found = results(rows, GRIDS)
    for (network, start), values in truth.items():
        result = found[network][start]
        assert result.rate == 0.01
        assert not result.at_edge
        np.testing.assert_allclose(result.mean, np.mean(values, axis=0))
        np.testing.assert_allclose(result.error, np.std(values, axis=0, ddof=1) / np.sqrt(3))


@pytest.mark.parametrize("mark", [0, 1, 2])
@pytest.mark.parametrize("start", ["all", "lsuv"])
def test_comparisons_count_what_lies_beyond_an_error(start: str, mark: int) -> None:
    rows, truth = made_up()
    compared = compare(results(rows, GRIDS), start, ["a", "b"], mark)
    gains, errors = [], []
    for network in ("a", "b"):
        one, own = truth[network, start][:, mark], truth[network, "own"][:, mark]
        gains.append(one.mean() - own.mean())
        errors.append(np.sqrt(one.var(ddof=1) / 3 + own.var(ddof=1) / 3))
    assert compared is not None
    assert compared.n == 2
    assert compared.not_below == np.mean([gain >= -error for gain, error in zip(gains, errors, strict=True)])
    assert compared.above == np.mean([gain > error for gain, error in zip(gains, errors, strict=True)])
    assert compared.regret == pytest.approx(max(0.0, -min(gains)))
    assert compared.mean == pytest.approx(np.mean(gains))
    if start == "all":
        assert (compared.not_below, compared.above, compared.regretted) == (0.5, 0.5, "b")


def test_only_seeds_that_both_have_are_compared() -> None:
    rows, truth = made_up(seeds={"all": 2})
    compared = compare(results(rows, GRIDS), "all", ["a"], 2)
    assert compared is not None
    assert compared.mean == pytest.approx(truth["a", "all"][:, 2].mean() - truth["a", "own"][:2, 2].mean())


def test_a_start_without_all_rates_is_not_told() -> None:
    rows, _ = made_up()
    part = [row for row in rows if (row.network, row.start, row.rate) != ("a", "all", 0.001)]
    assert set(results(part, GRIDS)["a"]) == {"own", "lsuv"}
    assert compare(results(part, GRIDS), "all", ["a"], 2) is None


def test_a_run_that_diverged_counts_as_zero_and_the_largest_budget_alone() -> None:
    def row(steps: int, judged: float | None, seed: int = 0) -> Row:
        return Row(
            "a", "2-D", "task", "small", "accuracy %", "own", 0.1, seed, steps, "sgd",
            judged=(10.0, 10.0, judged), choosing=(1.0, 1.0, 1.0),
        )  # fmt: skip

    found = results([row(50, 90.0), row(100, 40.0), row(100, None, seed=1)], {"a": (0.1,)})
    np.testing.assert_allclose(found["a"]["own"].values[:, -1], [40.0, 0.0])


def test_the_best_of_a_row_is_bold_whoever_has_it() -> None:
    rows, truth = made_up()
    printed = tables(results(rows, GRIDS))
    end = printed.split("### After 100 %")[1].splitlines()
    line_a = next(line for line in end if line.startswith("| a |"))
    values = truth["a", "all"][:, 2]
    assert f"**{values.mean():.1f} ± {values.std(ddof=1) / np.sqrt(3):.1f}**" in line_a
    assert line_a.count("**") == 2
    line_b = next(line for line in end if line.startswith("| b |"))
    best = max(("own", "all", "lsuv"), key=lambda start: truth["b", start][:, 2].mean())
    assert f"**{truth['b', best][:, 2].mean():.1f}" in line_b
    assert best != "all"
    assert "| all | all | 2 | 50 / 50 / 50 | 50 / 50 / 50 |" in printed
    assert "The rate that was chosen is the smallest or largest that was tried in 0 of 6 cases." in printed
