"""What inherited weights are worth, from what benchmarks/inherit.py wrote."""

from __future__ import annotations

from inherit import table
from racing.rows import read

from figures.sources import RESULTS

__all__ = ["inherited"]


def inherited() -> str:
    """Each start of each pair at parts of the budget."""
    return table(read(RESULTS / "inherit.jsonl"))
