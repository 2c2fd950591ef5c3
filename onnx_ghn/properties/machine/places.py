"""Where calibrations are kept."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["calibrations_folder"]


def calibrations_folder() -> Path:
    """The folder of all calibrations of this user: in $ONNX_GHN_CACHE, or in the system's folder for caches."""
    told = os.environ.get("ONNX_GHN_CACHE")
    if told:
        return Path(told) / "machines"
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(home) if home else Path.home() / ".cache") / "onnx-ghn" / "machines"
