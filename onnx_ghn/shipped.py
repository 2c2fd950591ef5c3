"""Where the checkpoints are that come with the package: GHNs and predictors of properties."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

__all__ = ["shipped_checkpoints"]


def shipped_checkpoints() -> Path:
    """The folder of shipped checkpoints, of the installed package or of a checkout; it may be absent."""
    try:
        return Path(str(importlib.resources.files("onnx_ghn.checkpoints")))
    except ModuleNotFoundError:
        return Path(__file__).resolve().parents[1] / "checkpoints"
