"""What several tests of prediction watch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_ghn.prediction import calibration_inputs

Feed = dict[str, np.ndarray]


@pytest.fixture
def feeds(monkeypatch: pytest.MonkeyPatch) -> list[Feed]:
    """The inputs that calibration drew."""
    seen: list[Feed] = []
    draw = calibration_inputs._feed

    def record(*args: Any) -> Feed:
        seen.append(draw(*args))
        return seen[-1]

    monkeypatch.setattr(calibration_inputs, "_feed", record)
    return seen
