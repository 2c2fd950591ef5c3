"""The cells that are expected, as data, and what a measurement says beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from compatibility_runs.cells import Result

__all__ = ["changes", "read_expected", "write_expected"]


def read_expected(path: Path) -> list[Result]:
    """The results that a measurement is held against."""
    return [Result.from_dict(row) for row in json.loads(path.read_text(encoding="utf-8"))]


def write_expected(path: Path, results: Sequence[Result]) -> None:
    """Write results as the expected ones, a line each, so that a change is a line of a diff."""
    lines = [json.dumps(result.to_dict(), ensure_ascii=False) for result in results]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def changes(expected: Sequence[Result], measured: Sequence[Result]) -> tuple[list[str], list[str]]:
    """What is worse than expected, and what else changed. A row that was not measured is not compared.

    A cell that was expected and is not measured any more is worse; so is one whose environment could not be made.
    """
    worse: list[str] = []
    other: list[str] = []
    by_key = {(result.row, result.network): result for result in measured}
    known = {(result.row, result.network) for result in expected}
    for before in expected:
        now = by_key.get((before.row, before.network))
        if now is None:
            continue
        for column, cell in before.cells.items():
            where = f"{before.row}, {before.network}, {column}"
            new = now.cells.get(column)
            if new is None:
                said = next(iter(now.cells.values()))
                worse.append(f"{where}: {cell.grade} before, not measured now ({said.grade} {said.text})")
            elif new.worse_than(cell):
                worse.append(f"{where}: {new.grade} {new.text}, {cell.grade} before")
            elif cell.worse_than(new):
                other.append(f"better: {where}: {new.grade}, {cell.grade} before ({cell.text})")
            elif new.text != cell.text:
                other.append(f"different: {where}: {new.text}; before: {cell.text}")
        other += [
            f"new: {before.row}, {before.network}, {column}: {cell.grade} {cell.text}"
            for column, cell in now.cells.items()
            if column not in before.cells
        ]
    other += [f"new: {row}, {network}" for row, network in by_key if (row, network) not in known]
    return worse, other
