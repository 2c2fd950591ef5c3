"""Tables of the race, from its rows."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from racing import likeness
from racing.cells import cell
from racing.entrant import ATTENTION
from racing.entrants import ENTRANTS
from racing.judging import judged_table
from racing.rows import read
from racing.summary import BASELINE, MARKS, Result, Results, results
from racing.table import beside_table, edges_line, networks_table, starts_of
from racing.tasks import TASKS

from figures.sources import RESULTS
from onnx_ghn.prediction.collapse import is_collapse

__all__ = [
    "by_kind",
    "collapsed",
    "collapses",
    "cures",
    "judged",
    "judged_starts",
    "raced",
    "raced_file",
    "table_at",
    "table_beside",
    "table_edges",
    "to_the_end",
]

_AUTO = "auto"


@functools.cache
def raced(*files: str) -> Results:
    """What the rows of files in benchmarks/results say together. Raises FileNotFoundError."""
    for file in files:
        if not (RESULTS / file).is_file():
            raise FileNotFoundError(RESULTS / file)
    return raced_file(*(RESULTS / file for file in files))


def raced_file(*files: Path) -> Results:
    """What the rows of any files say together."""
    rows = [row for file in files for row in read(file) if row.network in ENTRANTS]
    return results(rows, {name: entrant.rates for name, entrant in ENTRANTS.items()})


@functools.cache
def judged_starts() -> Mapping[str, str]:
    """What `--policy auto` gives each network by the rules of the half that it is not in (fit_policy.py --judged)."""
    read_json = json.loads((RESULTS / "policy_judged.json").read_text(encoding="utf-8"))
    return {str(name): str(start) for name, start in read_json[_AUTO].items()}


def table_at(file: str, mark: int, drop: str = "") -> str:
    """All networks of a file at a mark (its index). `drop`: a start that is left out."""
    found = raced(file)
    return networks_table(found, [start for start in starts_of(found) if start != drop], mark)


def table_beside(file: str) -> str:
    """Every start beside the own one."""
    found = raced(file)
    return beside_table(found, starts_of(found))


def table_edges(file: str) -> str:
    """How often the best rate was the smallest or largest."""
    return edges_line(raced(file))


def judged() -> str:
    """`auto` on networks that its rules were not fitted on."""
    starts = judged_starts()
    whole = judged_table("", raced("race.jsonl", "race_data.jsonl"), starts, list(starts))
    return whole.partition("\n\n")[2].strip()


def by_kind() -> str:
    """A row a kind of network: what `auto` and `all` gain or lose beside the own start at the end of the budget."""
    found, starts = raced("race.jsonl", "race_data.jsonl"), judged_starts()
    words = {
        "dense output": "images to maps or boxes",
        "2-D convolutional classifier": "convolutional image classifier",
    }
    kinds: dict[str, list[str]] = {}
    for name, of in found.items():
        if {BASELINE, starts.get(name, ""), "all"} <= set(of):
            kinds.setdefault(_kind(name, of[BASELINE].kind), []).append(name)
    lines = [
        "| kind of network | networks | `auto`, mean | its worst | `all`, mean | its worst |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for kind, names in sorted(kinds.items(), key=_order(kinds)):
        auto = [float(found[name][starts[name]].beside(found[name][BASELINE])[0][-1]) for name in names]
        everything = [float(found[name]["all"].beside(found[name][BASELINE])[0][-1]) for name in names]
        means = [float(np.mean(auto)), float(np.mean(everything))]
        best = max(means)
        auto_mean, all_mean = (cell(mean, best=best, form="+.1f") for mean in means)
        kept = all(starts[name] == BASELINE for name in names)
        keeps = "**keeps yours**" if round(best, 1) <= 0 else "keeps yours"
        cells = [keeps, ""] if kept else [auto_mean, _gain(min(auto))]
        lines.append(
            f"| {words.get(kind, kind)} | {len(names)} | {' | '.join(cells)} | {all_mean} | {_gain(min(everything))} |"
        )
    return "\n".join(lines)


def _gain(points: float) -> str:
    """With its sign, of which a zero has none."""
    told = f"{points:+.1f}"
    return told if float(told) else told[1:]


def _kind(name: str, kind: str) -> str:
    """Transformers of images and of text get different starts."""
    if kind != ATTENTION:
        return kind
    return "transformer of text" if TASKS[ENTRANTS[name].task].tokens else "transformer of images"


def _order(kinds: Mapping[str, list[str]]) -> Callable[[tuple[str, list[str]]], int]:
    """Kinds as they come first, those of transformers together."""
    first = list(dict.fromkeys(kind.partition(" of ")[0] for kind in kinds))
    return lambda item: first.index(item[0].partition(" of ")[0])


def to_the_end() -> str:
    """A row a network and start that were trained for forty passes over the data, with the rate that was chosen."""
    found = raced("race_end.jsonl")
    lines = [
        "| network | start | rate | " + " | ".join(f"after {mark} %" for mark in MARKS[:-1]) + " | at the end |",
        "|---|---|---:|" + "---:|" * len(MARKS),
    ]
    for network, of in found.items():
        for start in starts_of(found):
            if start not in of or len(of) == 1:  # of what is being raced, no start has one to compare with yet
                continue
            cells = []
            for i in range(len(MARKS)):
                best = max(float(other.mean[i]) for other in of.values())
                cells.append(cell(float(of[start].mean[i]), float(of[start].error[i]), best=best))
            lines.append(
                f"| {network.removesuffix(', to the end')} | `{start}` | {of[start].rate} | {' | '.join(cells)} |"
            )
    return "\n".join(lines)


def cures() -> str:
    """The end of the budget for networks that were predicted whole with one cure at a time, by one seed."""
    found = raced("race.jsonl", "cures.jsonl")
    shown = [BASELINE, *(start for start in starts_of(found) if start.startswith("bare"))]
    first = {name: _first_seed(of, shown) for name, of in found.items() if "bare" in of}
    return networks_table(first, shown, len(MARKS) - 1)


def _first_seed(of: Mapping[str, Result], starts: Sequence[str]) -> dict[str, Result]:
    """Starts of a network by seed 0 alone, which all of them were run with."""
    return {
        start: dataclasses.replace(of[start], seeds=(0,), values=of[start].values[[of[start].seeds.index(0)]])
        for start in starts
        if start in of
    }


def collapsed(found: Results, rows: Sequence[likeness.Likeness]) -> str:
    """A row a network and start whose features are more alike than `predict` lets pass, and what these ends say."""
    cosines = likeness.means(rows)
    lines = ["| network | start | cosine, own | cosine | at the end, points |", "|---|---|---:|---:|---:|"]
    other: list[tuple[float, float]] = []
    for (network, start), cosine in sorted(cosines.items()):
        if start == BASELINE or (network, BASELINE) not in cosines:
            continue
        own = cosines[network, BASELINE]
        gain, error = (float(of[-1]) for of in found[network][start].beside(found[network][BASELINE]))
        if is_collapse(cosine, own):
            lines.append(f"| {network} | `{start}` | {own:.3f} | {cosine:.3f} | {gain:+.1f} ± {error:.1f} |")
        else:
            other.append((gain, error))
    lower = sum(gain < -error for gain, error in other)
    return "\n".join(lines) + f"\n\nOf the other {len(other)} pairs of a network and a start, {lower} end lower."


def collapses() -> str:
    """The same of the rows that are kept."""
    return collapsed(raced("race.jsonl"), likeness.read(RESULTS / "likeness.jsonl"))
