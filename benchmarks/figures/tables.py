"""Every table by its name, as a page's mark has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from figures import inherited, machine, race, speed

__all__ = ["TABLES"]

TABLES: Mapping[str, Callable[[], str]] = {
    "race-by-kind": race.by_kind,
    "race-at-25": partial(race.table_at, "race.jsonl", 0),
    "race-at-50": partial(race.table_at, "race.jsonl", 1),
    "race-at-100": partial(race.table_at, "race.jsonl", 2),
    "race-beside-own": partial(race.table_beside, "race.jsonl"),
    "race-edges": partial(race.table_edges, "race.jsonl"),
    "race-judged": race.judged,
    "race-to-the-end": race.to_the_end,
    "race-collapses": race.collapses,
    "race-cures": race.cures,
    "race-language-models": partial(race.table_at, "language_models.jsonl", 2),
    "race-with-data": partial(race.table_at, "race_data.jsonl", 2),
    "inherited": inherited.inherited,
    "initialisers": partial(race.table_at, "initialisers.jsonl", 2),
    "initialisers-edges": partial(race.table_edges, "initialisers.jsonl"),
    "journeys": speed.journeys,
    "machine-agreement": machine.machine_agreement,
    "machine-by-kind": machine.machine_by_kind,
    "speed-processes": speed.processes,
    "speed-in-process": speed.in_process,
}
