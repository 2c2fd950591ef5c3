"""A fitted policy beside the own start, on the networks that it was not fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from racing.cells import cell
from racing.entrant import TWO_D
from racing.summary import BASELINE, MARKS, Results

__all__ = ["judged_table"]


def judged_table(title: str, found: Results, starts: Mapping[str, str], names: Sequence[str]) -> str:
    """A row a network with the start that it would get, and the sums that a promise is held by.

    Args:
        starts: what a policy that was not fitted on it gives each network.
        names: the networks, in the order of the rows.
    """
    header = " | ".join(f"{mark} %" for mark in MARKS)
    lines = [
        f"### {title}: {BASELINE} → chosen, at parts of the budget",
        "",
        f"| network | of | start | {header} |",
        "|---|---|---|" + "---:|" * len(MARKS),
    ]
    raced = [name for name in names if {starts[name], BASELINE} <= set(found[name])]
    lines += [_row(found, name, starts[name]) for name in raced]
    if left_out := [name for name in names if name not in raced]:
        lines += ["", f"Not raced from what the policy gives them, and left out: {', '.join(left_out)}."]
    return "\n".join([*lines, "", *_sums(found, starts, raced), ""])


def _row(found: Results, name: str, start: str) -> str:
    own, chosen = found[name][BASELINE], found[name][start]
    cells = []
    for i in range(len(MARKS)):
        best = max(own.mean[i], chosen.mean[i])
        one, two = (cell(result.mean[i], result.error[i], best=best) for result in (own, chosen))
        cells.append(one if start == BASELINE else f"{one} → {two}")
    return f"| {name} | {own.metric.partition(':')[0]} | {start} | {' | '.join(cells)} |"


def _sums(found: Results, starts: Mapping[str, str], names: Sequence[str]) -> list[str]:
    groups = {
        "all networks": names,
        "2-D convolutional classifiers": [name for name in names if found[name][BASELINE].kind == TWO_D],
    }
    lines = [
        "| of | n | not below, % | above, % | largest regret, points | mean gain, points |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for words, members in groups.items():
        if not members:
            continue
        both = [found[name][starts[name]].beside(found[name][BASELINE]) for name in members]
        gains, errors = (np.array(values) for values in zip(*both, strict=True))
        errors = np.nan_to_num(errors)
        columns = [
            " / ".join(f"{100 * value:.0f}" for value in (gains >= -errors).mean(0)),
            " / ".join(f"{100 * value:.0f}" for value in (gains > errors).mean(0)),
            " / ".join(f"{value:.1f}" for value in np.maximum(0.0, -gains).max(0) + 0.0),
            " / ".join(f"{value:+.1f}" for value in gains.mean(0)),
        ]
        lines.append(f"| {words} | {len(members)} | {' | '.join(columns)} |")
    return lines
