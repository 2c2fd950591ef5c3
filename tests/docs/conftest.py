"""Fixtures of the documentation's tests."""

from __future__ import annotations

import sys
from pathlib import Path

for _folder in ("cli", "report"):  # cli_tools and browser serve here, too
    _path = str(Path(__file__).resolve().parents[1] / _folder)
    if _path not in sys.path:
        sys.path.append(_path)
