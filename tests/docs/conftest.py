"""Fixtures of the documentation's tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for _folder in ("cli", "report"):  # cli_tools and browser serve here, too
    _path = str(Path(__file__).resolve().parents[1] / _folder)
    if _path not in sys.path:
        sys.path.append(_path)


@pytest.fixture(autouse=True)
def _cache_of_the_pages(
    _own_cache: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the commands of the pages calibrate is for those of the pages alone: elsewhere this machine is not."""
    monkeypatch.setenv("ONNX_GHN_CACHE", str(tmp_path_factory.getbasetemp() / "cache-of-the-pages"))
