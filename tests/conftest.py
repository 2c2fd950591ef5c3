"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of published reference predictions; tests that need it skip where it is absent."""
    folder = SHARED / "reference"
    if not folder.is_dir():
        pytest.skip(f"no reference predictions at {folder}")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this user has calibrated is nobody's expectation."""
    monkeypatch.setenv("ONNX_GHN_CACHE", str(tmp_path_factory.getbasetemp() / "no-cache"))
