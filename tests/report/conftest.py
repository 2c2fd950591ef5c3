"""Fixtures of the report's tests."""

from __future__ import annotations

import sys
from pathlib import Path

_tests = Path(__file__).resolve().parents[1]
for _folder in (_tests, _tests / "cli"):  # predict_models and cli_tools serve here too
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))
