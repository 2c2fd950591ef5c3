"""Tables on terminals that are too narrow for them: a paragraph for each row, instead of columns a few letters wide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.padding import Padding
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["print_table"]


_LEGIBLE = 10  # characters of a word that a column shows at least, where it has as many


def print_table(out: Console, table: Table) -> None:
    """Print a table as it is where its columns are wide enough to be read, else row by row.

    What is piped has a width of its own, at which tables stay tables.
    """
    if not out.is_terminal:
        out.print(table)
        return
    for column in table.columns:
        words = [word for text in (column.header, *column.cells) for word in str(text).split()]
        column.min_width = min(max(map(cell_len, words), default=0), _LEGIBLE)
    needed = sum(column.min_width or 0 for column in table.columns) + 3 * len(table.columns) - 1  # with their padding
    if needed <= out.width:
        out.print(table)
        return
    for part in _paragraphs(table):
        out.print(part, highlight=False)


def _paragraphs(table: Table) -> Iterator[Padding | Text]:
    """Its title, its rows (the first cell, and below it the others with their headers) and its caption."""
    if table.title:
        yield Text(str(table.title), style="italic")
    headers = [str(column.header) for column in table.columns]
    cells = [list(column.cells) for column in table.columns]
    for number, row in enumerate(table.rows):
        style = row.style or ""
        values = [(header, str(column[number])) for header, column in zip(headers, cells, strict=True)]
        filled = [(header, value) for header, value in values if value]
        for place, (header, value) in enumerate(filled):
            told = value if not header or (place == 0 and values[0] == (header, value)) else f"{header}: {value}"
            yield Padding(Text(told, style=style, overflow="fold"), (0, 0, 0, 2 if place else 0))
    if table.caption:
        yield Text(str(table.caption), style="dim italic")
