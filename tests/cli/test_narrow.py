"""Tables on terminals of 30 and 40 columns, and in pipes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from onnx_ghn.cli.narrow import print_table
from onnx_ghn.cli.tables import new_table

ROWS = (
    ("features.denseblock4.weight", "1,024", "what no GHN predicts gets a standard start"),
    ("b", "", ""),
)  # parameter, elements, why


def printed(width: int, *, terminal: bool = True) -> str:
    out = Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None, markup=False)
    table = new_table(("parameter", "left"), ("elements", "right"), ("", "left"), title="two of them")
    for row in ROWS:
        table.add_row(*row)
    print_table(out, table)
    assert isinstance(out.file, io.StringIO)
    return "\n".join(line.rstrip() for line in out.file.getvalue().splitlines())


def test_a_row_is_a_paragraph_where_its_words_do_not_fit() -> None:
    assert printed(30) == (
        "two of them\n"
        "features.denseblock4.weight\n"
        "  elements: 1,024\n"
        "  what no GHN predicts gets a\n"
        "  standard start\n"
        "b"
    )


@pytest.mark.parametrize(("width", "terminal"), [(80, True), (40, True), (160, False)])
def test_a_table_stays_one_where_they_do_and_in_pipes(width: int, terminal: bool) -> None:
    text = printed(width, terminal=terminal)
    assert "elements:" not in text
    assert "──" in text
    for word in ("parameter", "elements", "1,024", "predicts", "standard"):
        assert word in text  # none but the name is broken
    assert max(map(len, text.splitlines())) <= (width if terminal else 160)


def test_a_word_longer_than_the_terminal_is_folded_and_whole() -> None:
    out = Console(file=io.StringIO(), force_terminal=True, width=16, color_system=None, markup=False)
    table = new_table(("name", "left"), ("size", "right"))
    table.add_row("a" * 50, "1")
    print_table(out, table)
    assert isinstance(out.file, io.StringIO)
    lines = [line.rstrip() for line in out.file.getvalue().splitlines()]
    assert max(map(len, lines)) <= 16
    assert "".join(lines[:-1]) == "a" * 50
    assert lines[-1] == "  size: 1"
