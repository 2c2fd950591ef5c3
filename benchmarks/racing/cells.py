"""The cell of a table: a mean, its error, and whether it is the best."""

from __future__ import annotations

import math

__all__ = ["cell"]


def cell(mean: float, error: float = math.nan, *, best: float | None = None, form: str = ".1f") -> str:
    """Such as `38.5 ± 0.7`, bold where it is the best.

    Args:
        error: of the mean, or its deviation; nan where there is none, as from one seed.
        best: what it is compared with. Equal is what reads equal, so that two cells of the same figure are both bold.
        form: of the mean.
    """
    told = f"{mean:{form}}"
    text = told if math.isnan(error) else f"{told} ± {error:.1f}"
    return f"**{text}**" if best is not None and float(told) == float(f"{best:{form}}") else text
