"""What rows say together: means over seeds at the chosen rate, and each start beside the own values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from racing.choice import allowed_rates, at_edge, best_rate
from racing.rows import Row

__all__ = ["BASELINE", "MARKS", "Comparison", "Result", "Results", "compare", "results"]

BASELINE = "own"
MARKS = (25, 50, 100)  # percent of the budget
_DIVERGED = 0.0  # percent, what a run that diverged is worth

Results = Mapping[str, Mapping[str, "Result"]]


@dataclasses.dataclass(frozen=True)
class Result:
    """A network from a start, at the rate that was chosen for them.

    Attributes:
        values: percent, (seeds, marks).
        seeds: of the rows of `values`.
        at_edge: whether the rate is the largest or smallest that was tried, so that another might have been better.
    """

    kind: str
    suite: str
    metric: str
    rate: float
    at_edge: bool
    seeds: tuple[int, ...]
    values: npt.NDArray[np.float64]

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """(marks,)."""
        return np.asarray(self.values.mean(0))

    @property
    def error(self) -> npt.NDArray[np.float64]:
        """(marks,): standard errors of the means over seeds; nan from one seed."""
        n = len(self.values)
        return self.values.std(0, ddof=1) / math.sqrt(n) if n > 1 else np.full(self.values.shape[1], np.nan)

    def beside(self, other: Result) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """How far it is above another over the seeds that both have, and the standard error of that: (marks,) each."""
        shared = [seed for seed in self.seeds if seed in other.seeds]
        one, two = (
            dataclasses.replace(
                result, seeds=tuple(shared), values=result.values[[result.seeds.index(s) for s in shared]]
            )
            for result in (self, other)
        )
        return one.mean - two.mean, np.hypot(one.error, two.error)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A start beside the own values, over networks.

    Attributes:
        not_below: share of networks that are not below by more than a standard error of the difference.
        above: share of those that are above by more than one.
        regret: the largest loss, 0 where there is none, and `regretted`, whose it is.
        mean: of the differences.
    """

    n: int
    not_below: float
    above: float
    regret: float
    regretted: str
    mean: float


def results(rows: Iterable[Row], grids: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Result]]:
    """By network and start. A start counts once each rate has its run of seed 0. The largest budget alone counts.

    Args:
        grids: the rates of each network; rows at rates far from them, or of other networks, are passed over.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.network not in grids or row.rate not in allowed_rates(grids[row.network]):
            continue
        groups.setdefault((row.network, row.start), []).append(row)
    budgets: dict[str, int] = {}
    for (network, _), members in groups.items():
        budgets[network] = max(budgets.get(network, 0), *(row.steps for row in members))
    found: dict[str, dict[str, Result]] = {}
    for (network, start), members in groups.items():
        members = [row for row in members if row.steps == budgets[network]]
        grid = grids[network]
        rate = best_rate(members, grid)
        if rate is None:
            continue
        judged = sorted((row for row in members if row.rate == rate and not row.failed), key=lambda row: row.seed)
        values = [[_DIVERGED if value is None else value for value in row.judged] for row in judged]
        first = judged[0]
        found.setdefault(network, {})[start] = Result(
            first.kind,
            first.suite,
            first.metric,
            rate,
            at_edge(members, grid),
            tuple(row.seed for row in judged),
            np.array(values),
        )
    return found


def compare(found: Results, start: str, networks: Sequence[str], mark: int) -> Comparison | None:
    """A start beside `BASELINE` at a mark (its index), over those networks that have both; None without any."""
    differences, errors, names = [], [], []
    for network in networks:
        starts = found[network]
        if start not in starts or BASELINE not in starts:
            continue
        gain, error = starts[start].beside(starts[BASELINE])
        differences.append(gain[mark])
        errors.append(0.0 if math.isnan(error[mark]) else error[mark])  # of one seed nothing is known: as it is
        names.append(network)
    if not names:
        return None
    difference, error = np.array(differences), np.array(errors)
    worst = int(difference.argmin())
    return Comparison(
        len(names),
        float((difference >= -error).mean()),
        float((difference > error).mean()),
        max(0.0, -float(difference[worst])),
        names[worst] if difference[worst] < 0 else "",
        float(difference.mean()),
    )
