"""The tables, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from racing.cells import cell
from racing.rows import Row
from racing.summary import BASELINE, MARKS, Results, compare

__all__ = ["beside_table", "edges_line", "networks_table", "starts_of", "tables"]


def tables(found: Results, rows: Sequence[Row] = ()) -> str:
    """A table of networks and starts for each mark, and one of all starts beside the own values.

    Args:
        rows: of which those that failed are listed.
    """
    failed = list(dict.fromkeys(f"- {row.network}, {row.start}: {row.failed}" for row in rows if row.failed))
    listed = ["\n".join(["Failed:", "", *failed])] if failed else []
    if not found:
        return "\n\n".join(["There is no network yet with all rates of a start.", *listed])
    starts = starts_of(found)
    parts = [
        f"### After {MARKS[i]} % of the budget: mean ± standard error over seeds\n\n{networks_table(found, starts, i)}"
        for i in range(len(MARKS))
    ]
    if len(starts) > 1 and BASELINE in starts:
        explained = (
            f"### Beside {BASELINE}\n\nAt {' / '.join(map(str, MARKS))} % of the budget. Not below, above: by more "
            "than one standard error of the difference. Regret: the largest loss, in points."
        )
        parts += [explained, beside_table(found, starts)]
    return "\n\n".join([*parts, edges_line(found), *listed])


def starts_of(found: Results) -> list[str]:
    """All that were raced, the own one first."""
    starts = list(dict.fromkeys(start for of in found.values() for start in of))
    return sorted(starts, key=lambda start: start != BASELINE)


def networks_table(found: Results, starts: Sequence[str], mark: int) -> str:
    """A row a network, a column a start, at a mark (its index); the best of a row is bold."""
    lines = [
        f"| network | of | {' | '.join(starts)} |",
        "|---|---|" + "---:|" * len(starts),
    ]
    for network, of in found.items():
        best = max(result.mean[mark] for result in of.values())
        cells = []
        for start in starts:
            if start not in of:
                cells.append("")
                continue
            cells.append(cell(of[start].mean[mark], of[start].error[mark], best=best))
        metric = next(iter(of.values())).metric.partition(":")[0]
        lines.append(f"| {network} | {metric} | {' | '.join(cells)} |")
    return "\n".join(lines)


def beside_table(found: Results, starts: Sequence[str]) -> str:
    """Each start beside the own one: of all networks, of each suite and of each kind."""
    groups: dict[str, list[str]] = {"all": list(found)}
    for network, of in found.items():
        result = next(iter(of.values()))
        groups.setdefault(f"suite {result.suite}", []).append(network)
        groups.setdefault(result.kind, []).append(network)
    lines = [
        "| networks | start | of them | not below, % | above, % | regret | its network, at the end | mean, points |",
        "|---|---|---:|---:|---:|---:|---|---:|",
    ]
    for group, networks in groups.items():
        if group != "all" and networks == groups["all"]:
            continue
        for start in starts:
            at = [compare(found, start, networks, mark) for mark in range(len(MARKS))]
            told = [comparison for comparison in at if comparison is not None]
            if start == BASELINE or not told:
                continue
            lines.append(
                f"| {group} | {start} | {told[0].n} "
                f"| {' / '.join(f'{100 * c.not_below:.0f}' for c in told)} "
                f"| {' / '.join(f'{100 * c.above:.0f}' for c in told)} "
                f"| {' / '.join(f'{c.regret:.1f}' for c in told)} | {told[-1].regretted} "
                f"| {' / '.join(f'{c.mean:+.1f}' for c in told)} |"
            )
    return "\n".join(lines)


def edges_line(found: Results) -> str:
    """In how many cases a better rate may lie beyond those that were tried."""
    every = [result for of in found.values() for result in of.values()]
    n = sum(result.at_edge for result in every)
    return f"The rate that was chosen is the smallest or largest that was tried in {n} of {len(every)} cases."
