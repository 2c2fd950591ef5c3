"""The table of training on 100 images a class, from what benchmarks/n_shot.py wrote."""

from __future__ import annotations

import json

import n_shot

from figures.sources import RESULTS

__all__ = ["table"]


def table() -> str:
    """A line a network and initialisation."""
    return n_shot.table([json.loads(line) for line in (RESULTS / "n_shot.jsonl").read_text().splitlines()])
