"""Running text that a page would show as something else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("checkpoints/*/*.md")}
)


def stray_numbers(text: str) -> Iterator[str]:
    """Lines that begin like an item of a numbered list, "2. …", and continue none: Markdown takes their number away."""
    before: set[int] = set()
    previous, is_code = "", False
    for line in text.splitlines():
        is_code ^= line.lstrip().startswith("```")
        item = re.match(r"\s*(\d+)\. ", line)
        if not line.strip():
            previous = ""
            continue
        if item and not is_code:
            number = int(item[1])
            if number - 1 not in before and (number != 1 or previous):
                yield line
            before.add(number)
        elif not line.startswith(" "):
            before.clear()
        previous = line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_number_of_a_sentence_becomes_a_list(page: Path) -> None:
    assert list(stray_numbers(page.read_text(encoding="utf-8"))) == []


def test_a_list_is_told_from_a_sentence() -> None:
    assert list(stray_numbers("- it is one, else\n  2. The next")) == ["  2. The next"]
    assert list(stray_numbers("Of them\n1. was")) == ["1. was"]
    assert list(stray_numbers("1. one\n   more of it\n2. two\n\n3. three\n")) == []
    assert list(stray_numbers("```\n7. in code\n```")) == []
