"""What a wheel takes along: every package of ours, and the shipped checkpoints."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_package_is_listed() -> None:
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "onnx_ghn").rglob("__init__.py")}
    assert set(SETUPTOOLS["packages"]) == found | {"onnx_ghn.checkpoints"}


def test_the_folder_of_checkpoints_is_the_only_one_that_lies_elsewhere() -> None:
    """What can be imported lies under its import name, where type checkers and documentation tools look for it."""
    assert SETUPTOOLS["package-dir"] == {"onnx_ghn.checkpoints": "checkpoints"}
    assert [path.name for path in (ROOT / "checkpoints").glob("*.py")] == ["__init__.py"]
    for folder in ("training", "exporters"):
        assert not (ROOT / folder / "__init__.py").exists()
