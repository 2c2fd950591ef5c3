"""Fixtures of the command line's tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The models of the other folders' tests serve here too.
for _folder in ("onnx_io", "graph"):
    _path = str(Path(__file__).resolve().parents[1] / _folder)
    if _path not in sys.path:
        sys.path.append(_path)

import io_models as m  # noqa: E402
from cli_tools import Predictor, save  # noqa: E402


@pytest.fixture(scope="session")
def ghn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GHN-2 of a few KB."""
    from onnx_ghn.ghn import GHNConfig, new_ghn, save_ghn

    config = GHNConfig.preset("ghn2", hid=8, max_shape=(8, 8, 3, 3), num_classes=10)
    return save_ghn(new_ghn(config, seed=0), tmp_path_factory.mktemp("ghn"))


@pytest.fixture
def predictor(tmp_path_factory: pytest.TempPathFactory, ghn_folder: Path) -> Predictor:
    """`predict` into a folder of its own."""
    return Predictor(tmp_path_factory.mktemp("out"), ghn_folder)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A file with which nothing is wrong."""
    return save(tmp_path / "in", m.mlp())


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 MiB of memory, so that what is too large is found early."""
    from onnx_ghn import limits, runtime
    from onnx_ghn.graph import model
    from onnx_ghn.prediction import calibration_inputs
    from onnx_ghn.prediction import predicting as prediction

    for module in (limits, prediction, runtime, calibration_inputs, model):
        monkeypatch.setattr(module, "memory_bytes", lambda: 256 << 20)


@pytest.fixture(autouse=True)
def _stay_here() -> Iterator[None]:
    """Some tests change the folder."""
    here = os.getcwd()
    yield
    os.chdir(here)
