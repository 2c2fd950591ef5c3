"""The cell of a race's table."""

from __future__ import annotations

import math

import pytest
from racing.cells import cell


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"mean": 38.46, "error": 0.66}, "38.5 ± 0.7"),
        ({"mean": 38.46}, "38.5"),
        ({"mean": 38.46, "error": math.nan, "best": 40.0}, "38.5"),
        ({"mean": 38.46, "error": 0.66, "best": 38.54}, "**38.5 ± 0.7**"),  # both read 38.5
        ({"mean": 38.46, "error": 0.66, "best": 38.56}, "38.5 ± 0.7"),
        ({"mean": 0.04, "best": 0.04, "form": "+.1f"}, "**+0.0**"),
        ({"mean": -0.04, "best": 0.04, "form": "+.1f"}, "**-0.0**"),  # reads as much as +0.0
    ],
)
def test_equal_is_what_reads_equal(arguments: dict[str, float], told: str) -> None:
    assert cell(**arguments) == told
