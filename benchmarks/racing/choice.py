"""Which rate a network and a start get: the best at the end of the budget on the part that is not judged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from racing.rows import Row

__all__ = ["CHOICE_SEED", "EXTENSIONS", "allowed_rates", "at_edge", "best_rate", "missing_rates"]

CHOICE_SEED = 0
#: Rates beyond either end of a grid that are tried where the best of it stands there. A start whose weights are larger
#: asks for a larger rate behind a norm: of one grid for all, the end would decide.
EXTENSIONS = 2


def allowed_rates(rates: Sequence[float]) -> tuple[float, ...]:
    """The grid, and what lies beyond it, a factor of √10 apart, to two digits."""
    steps = [math.sqrt(10) ** k for k in range(1, EXTENSIONS + 1)]
    beyond = [max(rates) * step for step in steps] + [min(rates) / step for step in steps]
    return (*rates, *(float(f"{rate:.2g}") for rate in beyond))


def missing_rates(rows: Iterable[Row], rates: Sequence[float]) -> tuple[float, ...]:
    """Which rates of one network and start are still to be run on seed 0.

    Those of the grid; then, as long as the best is the largest or smallest that was tried, the next one beyond it.

    Args:
        rows: of one network, start and budget; other seeds are passed over.
        rates: the grid.
    """
    rows = list(rows)
    tried = _tried(rows, rates)
    if missing := tuple(rate for rate in rates if rate not in tried):
        return missing
    best = best_rate(rows, rates)
    if best is None or not at_edge(rows, rates):
        return ()
    beyond = [rate for rate in allowed_rates(rates) if (rate > best if best == max(tried) else rate < best)]
    beyond = [rate for rate in beyond if rate not in tried]
    return (min(beyond, key=lambda rate: abs(math.log(rate / best))),) if beyond else ()


def best_rate(rows: Iterable[Row], rates: Sequence[float]) -> float | None:
    """The rate of one network and start whose run of seed 0 ends best; of equals the first of `rates`.

    Only `choosing` is looked at. A run that diverged, or could not begin, is worse than any other.

    Args:
        rows: of one network, start and budget; other seeds are passed over.
        rates: the grid.

    Returns:
        None, while a rate of the grid has no row, and where no run began.
    """
    ends = _tried(rows, rates)
    if any(rate not in ends for rate in rates) or all(row.failed for row in ends.values()):
        return None

    def end(rate: float) -> float:
        last = ends[rate].choosing[-1] if ends[rate].choosing else None
        return float("-inf") if last is None else last

    return max((rate for rate in allowed_rates(rates) if rate in ends), key=end)


def at_edge(rows: Iterable[Row], rates: Sequence[float]) -> bool:
    """Whether the best rate is the largest or smallest that was tried, so that another might have been better."""
    rows = list(rows)
    tried = _tried(rows, rates)
    return best_rate(rows, rates) in (min(tried), max(tried)) if tried else False


def _tried(rows: Iterable[Row], rates: Sequence[float]) -> dict[float, Row]:
    allowed = set(allowed_rates(rates))
    return {row.rate: row for row in rows if row.seed == CHOICE_SEED and row.rate in allowed}
