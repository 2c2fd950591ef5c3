"""Where what can be made again is kept between runs: decoded images, what operators cost on a machine."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["default_cache_dir"]


def default_cache_dir() -> Path:
    """The folder that $ONNX_GHN_CACHE names, otherwise onnx-ghn in the user's cache folder."""
    told = os.environ.get("ONNX_GHN_CACHE")
    if told:
        return Path(told)
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    # `Path.home` fails for a user of a container who has no home; a folder named ~ is not there then.
    return Path(home or os.path.join(os.path.expanduser("~"), ".cache")) / "onnx-ghn"
