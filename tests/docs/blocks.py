"""Code blocks of Markdown pages: commands with what they print, Python, and the marks that say why one is not run.

`<!-- not run: REASON -->` before a block: its commands are parsed only. `<!-- WORD not run: REASON -->`: those of them
with that subcommand.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\s*$")
_MARK = re.compile(r"^<!-- (?:(?P<word>[\w-]+) )?not run: (?P<reason>.+) -->$")
_BEGINS = re.compile(r"^(?:\$ )?(?:(?:[A-Z_]+=\S+ )*)(onnx-ghn|python|make|pip|git|torchrun|mkdocs)\b")


@dataclasses.dataclass(frozen=True)
class Command:
    """A line of a shell, and the lines below it."""

    line: str
    output: str = ""

    @property
    def words(self) -> list[str]:
        """Without comments, variables before it, and the file that it is written to."""
        words = shlex.split(self.line, comments=True)
        while "=" in words[0]:
            words.pop(0)
        return words[: words.index(">")] if ">" in words else words


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of a page: Python source, or commands."""

    page: Path
    number: int  # of its first line
    python: str = ""
    commands: tuple[Command, ...] = ()
    marks: tuple[tuple[str, str], ...] = ()  # subcommand or nothing, reason

    def runs(self, subcommand: str = "") -> bool:
        """Whether no mark stands before it."""
        return not any(word in ("", subcommand) for word, _ in self.marks)

    def __str__(self) -> str:
        return f"{self.page.name}:{self.number}"


def blocks(page: Path) -> Iterator[Block]:
    """Those of a page that hold Python or commands; other blocks show output or files."""
    lines = _without_tabs(page.read_text(encoding="utf-8").splitlines())
    if lines and lines[0] == "---":
        lines[: lines.index("---", 1) + 1] = [""] * (lines.index("---", 1) + 1)
    marks: list[tuple[str, str]] = []
    i = 0
    while i < len(lines):
        line, start = lines[i], i
        if found := _MARK.match(line):
            marks.append((found["word"] or "", found["reason"]))
            i += 1
        elif fence := _FENCE.match(line):
            i = lines.index("```", i + 1)
            yield from _block(page, start + 2, fence[1], lines[start + 1 : i], marks)
            marks, i = [], i + 1
        elif line.startswith("    ") and (i == 0 or not lines[i - 1].strip()):
            while i < len(lines) and (lines[i].startswith("    ") or not lines[i].strip()):
                i += 1
            yield from _block(page, start + 1, "", [text[4:] for text in lines[start:i]], marks)
            marks = []
        else:
            if line.strip():
                marks = []
            i += 1


def _without_tabs(lines: list[str]) -> list[str]:
    """What stands in the tabs of a page (`=== "NAME"`) as if it stood on the page; the lines keep their numbers."""
    found, inside = [], False
    for line in lines:
        if line.startswith("=== "):
            inside = True
            found.append("")
            continue
        inside = inside and (line.startswith("    ") or not line.strip())
        found.append(line[4:] if inside else line)
    return found


def _block(page: Path, number: int, language: str, lines: list[str], marks: list[tuple[str, str]]) -> Iterator[Block]:
    source = "\n".join(lines).rstrip()
    if language == "python" or re.match(r"(from|import) ", source):
        yield Block(page, number, python=source, marks=tuple(marks))
        return
    commands: list[Command] = []
    joined = re.sub(r"\\\n\s*", "", source).splitlines()
    for line in joined:
        if _BEGINS.match(line):
            commands.append(Command(line.removeprefix("$ ")))
        elif commands:
            last = commands.pop()
            commands.append(Command(last.line, f"{last.output}\n{line}"))
    if commands:
        yield Block(page, number, commands=tuple(commands), marks=tuple(marks))
