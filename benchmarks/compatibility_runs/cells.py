"""A cell of the table: how well something went, and what was seen."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

__all__ = ["COLUMNS", "GRADES", "Cell", "Grade", "Result"]

#: From best to worst. "refused" is an error that tells; "no" is another result without a word.
Grade = Literal["yes", "refused", "no", "slow", "crashes", "absent"]
GRADES: tuple[Grade, ...] = get_args(Grade)

#: Column -> what it says, in the order of the table.
COLUMNS = {
    "found": "trainable elements that we find, against the framework's own count",
    "layout": "matrices that we read as outputs × inputs the way the framework means them",
    "ties": "a tied embedding stays one after `predict`",
    "loads": "the predicted file, loaded back, gives the outputs of the file",
    "prediction": "`predict` gives the same values after the tool as before it",
    "bare": "the same for a file without weights",
    "outputs": "the outputs are equal",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """What was measured for one row, one network and one column.

    Attributes:
        grade: how well it went.
        text: numbers or a message, empty where the grade says it all.
    """

    grade: Grade
    text: str = ""

    def worse_than(self, other: Cell) -> bool:
        """Whether this is a regression from the other."""
        return GRADES.index(self.grade) > GRADES.index(other.grade)


@dataclasses.dataclass(frozen=True)
class Result:
    """One row with one network.

    Attributes:
        row: the key of the row.
        network: the network's name.
        date: of the measurement, as YYYY-MM-DD.
        versions: of the packages that the row is about.
        cells: by column.
    """

    row: str
    network: str
    date: str
    versions: dict[str, str]
    cells: dict[str, Cell]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, object]) -> Result:
        """From JSON."""
        cells = {column: Cell(**cell) for column, cell in values["cells"].items()}  # type: ignore[attr-defined]
        return cls(**{**values, "cells": cells})  # type: ignore[arg-type]
