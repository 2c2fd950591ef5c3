"""Fixtures of the profiling tests: the models and command tools of other folders serve here too."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

for _folder in ("cli", "onnx_io", "graph"):
    _path = str(Path(__file__).resolve().parents[1] / _folder)
    if _path not in sys.path:
        sys.path.append(_path)

EXAMPLES = Path(__file__).resolve().parents[2] / "data" / "examples"


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., str]:
    """Write a model in a folder of its own; its path."""

    def write(proto: onnx.ModelProto, name: str = "m.onnx") -> str:
        folder = tmp_path / "models"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_bytes(proto.SerializeToString())
        return str(path)

    return write


@pytest.fixture(scope="session")
def examples() -> Path:
    """The bundled architectures."""
    return EXAMPLES
