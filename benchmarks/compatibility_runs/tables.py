"""The measured cells as Markdown tables, one a kind of software, and what is not as one would wish, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from compatibility_runs.cells import COLUMNS, GRADES, Cell, Result
from compatibility_runs.rows import ROWS, Row

__all__ = ["BEGIN", "END", "rewrite_page", "table"]

BEGIN, END = "<!-- compat: begin (written by `make compat`) -->", "<!-- compat: end -->"
_HEADS = {
    "found": "elements found",
    "layout": "layout right",
    "ties": "ties kept",
    "loads": "loads back equal",
    "prediction": "same prediction",
    "bare": "same prediction, bare file",
    "outputs": "outputs equal",
}
_TITLES = {"exporters": "Exporters", "tools": "File tools", "trainers": "Trainers", "runtimes": "Runtimes"}
_WORDS = {"slow": "too slow", "absent": "not measured"}


def table(results: Sequence[Result]) -> str:
    """Tables of all kinds, each with its details beneath."""
    by_row: dict[str, list[Result]] = {}
    for result in results:
        by_row.setdefault(result.row, []).append(result)
    parts = []
    for kind, title in _TITLES.items():
        rows = [row for row in ROWS if row.kind == kind]
        parts.append(f"### {title}\n\n{_kind_table(rows, by_row)}\n{_details(rows, by_row)}")
    return "\n".join(parts)


def rewrite_page(path: Path, results: Sequence[Result]) -> None:
    """Put the tables between the marks of a page."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{table(results)}\n{END}{after}", encoding="utf-8")


def _kind_table(rows: Sequence[Row], by_row: Mapping[str, Sequence[Result]]) -> str:
    measured = [result for row in rows for result in by_row.get(row.key, ())]
    columns = [column for column in COLUMNS if any(column in result.cells for result in measured)]
    lines = [
        "| " + " | ".join(["", "version", "date", *(_HEADS[column] for column in columns)]) + " |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for row in rows:
        given = by_row.get(row.key, ())
        versions = ", ".join(f"{name} {version}" for name, version in given[0].versions.items()) if given else ""
        date = max((result.date for result in given if result.versions), default="")
        cells = [_summary([(r.network, r.cells.get(column)) for r in given]) for column in columns]
        lines.append("| " + " | ".join([row.title, versions or "–", date or "–", *cells]) + " |")
    return "\n".join(lines) + "\n"


def _summary(cells: Sequence[tuple[str, Cell | None]]) -> str:
    """One word where all networks agree, else the networks by grade."""
    by_grade: dict[str, list[str]] = {}
    for network, cell in cells:
        if cell is not None:
            by_grade.setdefault(cell.grade, []).append(network)
    if not by_grade:
        return "–"
    if len(by_grade) == 1:
        return _WORDS.get(*by_grade, *by_grade)
    parts = [f"{_WORDS.get(grade, grade)}: {', '.join(by_grade[grade])}" for grade in GRADES if grade in by_grade]
    return "; ".join(parts)


def _details(rows: Sequence[Row], by_row: Mapping[str, Sequence[Result]]) -> str:
    """Each row's cells that are not "yes", equal ones of several networks together."""
    lines = []
    for row in rows:
        said: dict[tuple[str, str], list[str]] = {}
        for result in by_row.get(row.key, ()):
            for column, cell in result.cells.items():
                if cell.grade != "yes" or cell.text:
                    text = f"{_WORDS.get(cell.grade, cell.grade)}: {cell.text}" if cell.text else cell.grade
                    head = "" if cell.grade == "absent" else f"{_HEADS[column]} "
                    said.setdefault((head, text), []).append(result.network)
        parts = [f"{head}({', '.join(networks)}) {text}" for (head, text), networks in said.items()]
        if parts:
            lines.append(f"- **{row.title}**: " + _plain("; ".join(parts)) + ".")
    return "\nIn numbers and messages:\n\n" + "\n".join(lines) + "\n" if lines else ""


def _plain(text: str) -> str:
    """As Markdown that shows it as it is: messages of other software hold what would be a table, a tag or a link."""
    return re.sub(r"([|\[\]])", r"\\\1", text).replace("<", "&lt;")
