"""Where calibrations are kept."""

from __future__ import annotations

from pathlib import Path

from onnx_ghn.user_cache import default_cache_dir

__all__ = ["FITTED", "calibrations_folder"]

FITTED = "calibration.safetensors"  # in the folder of each


def calibrations_folder() -> Path:
    """The folder of all calibrations of this user."""
    return default_cache_dir() / "machines"
