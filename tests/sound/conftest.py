"""Fixtures of the sweep."""

from __future__ import annotations

import sys
from pathlib import Path

_tests = str(Path(__file__).resolve().parents[1])
if _tests not in sys.path:  # predict_models serves here too
    sys.path.append(_tests)
