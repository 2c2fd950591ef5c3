"""What the tests of fine-tuning share."""

from __future__ import annotations

from pathlib import Path

import pytest
from colour_data import draw_colours
from one_thread import one_thread
from tuning_models import SIDE, torch_file, torch_net

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 training and 8 test images of each of three classes."""
    return draw_colours(tmp_path_factory.mktemp("data") / "colours", {"train": 24, "test": 8}, side=SIDE)


@pytest.fixture(scope="session")
def net_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torch_file(torch_net(), tmp_path_factory.mktemp("models") / "net.onnx")
