"""Which rates the one-epoch benchmark tries."""

from __future__ import annotations

from first_epoch import next_rates


def test_the_grid_is_widened_while_the_best_rate_stands_at_its_end() -> None:
    assert next_rates({}) == (0.1, 0.025, 0.00625)
    assert next_rates({0.1: 30.0, 0.025: 40.0}) == (0.00625,)
    within = {0.1: 30.0, 0.025: 40.0, 0.00625: 35.0}
    assert next_rates(within) == ()
    low = {0.1: 30.0, 0.025: 40.0, 0.00625: 50.0}
    assert next_rates(low) == (0.0015625,)
    assert next_rates({**low, 0.0015625: 45.0}) == ()
    assert next_rates({**low, 0.0015625: 55.0}) == (0.000390625,)
    assert next_rates({**low, 0.0015625: 55.0, 0.000390625: 60.0}) == ()  # no further than two
    assert next_rates({0.1: 50.0, 0.025: 40.0, 0.00625: 30.0}) == (0.4,)
