"""Which rate a network and a start get: the best at the end of the budget on the part that is not judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from racing.rows import Row

__all__ = ["CHOICE_SEED", "best_rate"]

CHOICE_SEED = 0


def best_rate(rows: Iterable[Row], rates: Sequence[float]) -> float | None:
    """The rate of one network and start whose run of seed 0 ends best; of equals the first of `rates`.

    Only `choosing` is looked at. A run that diverged, or could not begin, is worse than any other.

    Args:
        rows: of one network, start and budget; other seeds are passed over.
        rates: the grid.

    Returns:
        None, while a rate of the grid has no row, and where no run began.
    """
    ends = {row.rate: row for row in rows if row.seed == CHOICE_SEED}
    if any(rate not in ends for rate in rates) or all(ends[rate].failed for rate in rates):
        return None

    def end(rate: float) -> float:
        last = ends[rate].choosing[-1] if ends[rate].choosing else None
        return float("-inf") if last is None else last

    return max(rates, key=end)
