"""The map of the code names what is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_every_path_exists() -> None:
    folders = "onnx_ghn|training|exporters|checkpoints|data|benchmarks|findings|tests"
    named = set(re.findall(rf"`((?:{folders})/[\w./-]*)`", TEXT))
    assert len(named) > 40
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_contract_is_listed() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert [contract["name"] for contract in contracts if f"| {contract['name']} |" not in TEXT] == []


def test_every_room_has_its_row() -> None:
    found = [path.parent for path in (ROOT / "onnx_ghn").glob("*/__init__.py")]
    rooms = {path.name for path in found if not path.is_symlink()}  # a checkout may link its checkpoints there
    assert [room for room in sorted(rooms) if f"`onnx_ghn/{room}/`" not in TEXT] == []


def test_the_questions_of_newcomers_are_answered() -> None:
    answers = TEXT.partition("## Where does it go?")[2].partition("\n## ")[0]
    rows = [line for line in answers.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) == 12
    for row in rows:
        _, question, path, how, _ = (cell.strip() for cell in row.split("|"))
        assert question, row
        assert (ROOT / path.strip("`")).exists(), row
        assert how, row
