"""How alike starts make features of different inputs: rows of `benchmarks/collapse.py`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

__all__ = ["Likeness", "means", "read"]


@dataclasses.dataclass(frozen=True)
class Likeness:
    """Of a network from a start, at a seed: the mean cosine between features of different inputs, -1 to 1."""

    network: str
    start: str
    seed: int
    cosine: float


def read(path: Path) -> list[Likeness]:
    """The rows of a file."""
    return [Likeness(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def means(rows: Sequence[Likeness]) -> Mapping[tuple[str, str], float]:
    """Over seeds, by network and start."""
    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        groups.setdefault((row.network, row.start), []).append(row.cosine)
    return {key: float(np.mean(cosines)) for key, cosines in groups.items()}
