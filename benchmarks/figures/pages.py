"""Tables in Markdown pages: what stands between `<!-- figures: NAME -->` and `<!-- end of figures -->`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from figures.sources import ROOT

__all__ = ["PAGES", "names_in", "rewritten"]

#: All pages that may show figures.
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "checkpoints").glob("*/README.md")))

_MARKED = re.compile(r"<!-- figures: (?P<name>[\w-]+) -->\n.*?<!-- end of figures -->", re.DOTALL)
_BEGINS = re.compile(r"<!-- figures: ")


def names_in(page: Path) -> list[str]:
    """The tables of a page, in its order. Raises ValueError: a mark without its end."""
    text = page.read_text(encoding="utf-8")
    found = [match["name"] for match in _MARKED.finditer(text)]
    if len(found) != len(_BEGINS.findall(text)):
        raise ValueError(f"{page.relative_to(ROOT)}: a `figures` mark has no end")
    return found


def rewritten(text: str, table: Callable[[str], str]) -> str:
    """The text of a page with each of its tables made anew."""

    def marked(match: re.Match[str]) -> str:
        return f"<!-- figures: {match['name']} -->\n\n{table(match['name'])}\n\n<!-- end of figures -->"

    return _MARKED.sub(marked, text)
