"""Fixtures of the documentation's tests."""

from __future__ import annotations

import sys
from pathlib import Path

_cli = str(Path(__file__).resolve().parents[1] / "cli")
if _cli not in sys.path:  # cli_tools serves here too
    sys.path.append(_cli)
