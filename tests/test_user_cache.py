"""Where caches lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnx_ghn.user_cache import default_cache_dir

VARIABLES = ("ONNX_GHN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA")


@pytest.mark.parametrize(
    ("told", "folder"),
    [
        ({"ONNX_GHN_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        ({"XDG_CACHE_HOME": "/xdg", "LOCALAPPDATA": "/windows"}, "/xdg/onnx-ghn"),
        ({"LOCALAPPDATA": "/windows"}, "/windows/onnx-ghn"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/user"}, "/home/user/.cache/onnx-ghn"),
    ],
)
def test_the_first_that_is_told_counts(told: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert default_cache_dir() == Path(folder)
