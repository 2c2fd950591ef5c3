"""Where calibrations are kept."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["FITTED", "calibrations_folder"]

FITTED = "calibration.safetensors"  # in the folder of each


def calibrations_folder() -> Path:
    """The folder of all calibrations of this user: in $ONNX_GHN_CACHE, or in the system's folder for caches."""
    told = os.environ.get("ONNX_GHN_CACHE")
    if told:
        return Path(told) / "machines"
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    # `Path.home` fails for a user of a container who has no home; a folder named ~ is not there then.
    return Path(home or os.path.join(os.path.expanduser("~"), ".cache")) / "onnx-ghn" / "machines"
