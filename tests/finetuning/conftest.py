"""What the tests of fine-tuning share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tuning_models import draw_colours, torch_file, torch_net


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 training and 8 test images of each of three classes."""
    return draw_colours(tmp_path_factory.mktemp("data") / "colours", {"train": 24, "test": 8})


@pytest.fixture(scope="session")
def net_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torch_file(torch_net(), tmp_path_factory.mktemp("models") / "net.onnx")
