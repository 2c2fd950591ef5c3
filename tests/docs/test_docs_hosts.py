"""Where packages come from is the reader's choice: no page, example, script or workflow names an index of packages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_TOLD = ("docs", "data", "exporters", "training", "checkpoints", "benchmarks", "findings", "onnx_ghn", ".github", ".ci")
_TEXT = {".md", ".py", ".ipynb", ".txt", ".toml", ".yml", ".yaml", ".json", ".js", ".html", ".sh", ""}
_INDEX = re.compile(
    r"pypi\.\w+|pythonhosted|download\.pytorch\.org|anaconda\.org|/simple(?:/|\b)|/whl(?:/|\b)|"
    r"(?:--(?:extra-)?index-url|--default-index|--find-links|--trusted-host|(?:PIP|UV)_\w*INDEX\w*)\b",
    re.IGNORECASE,
)


def told() -> Iterator[Path]:
    """Whatever is read by people or run for them, but for the tests and what git ignores."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in _TEXT)
    for folder in _TOLD:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in _TEXT and path.is_file() and path.stat().st_size < 4 << 20:
                yield path


def test_no_page_names_an_index_of_packages() -> None:
    paths = list(told())
    assert {ROOT / "README.md", ROOT / "docs/quickstart.md", ROOT / "Dockerfile"} <= set(paths)
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in paths
        for match in _INDEX.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "pip install torch --index-url https://example.com/whl/cpu",
        "[onnx2fx](https://pypi.org/project/onnx2fx/)",
        "PIP_EXTRA_INDEX_URL=https://example.com",
        "uv pip install --default-index https://example.com/simple",
    ],
)
def test_such_a_line_is_found(line: str) -> None:
    assert _INDEX.search(line)
