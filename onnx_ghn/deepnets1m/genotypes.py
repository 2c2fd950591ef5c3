"""Genotypes: cells in the sense of DARTS, and the predefined ones.

Facts from facebookresearch/ppuda, ppuda/deepnets1m/genotypes.py (the operations, DARTS, P-DARTS, ViT).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from onnx_ghn.errors import OptionError
from onnx_ghn.json_types import JsonView

__all__ = ["DARTS", "HEADS", "OPERATIONS", "PDARTS", "VIT", "Genotype"]

#: Operations of the search space: those of DARTS and five more. The first four have no trainable tensors
#: (but for a skip that halves the resolution).
OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_1x1",
    "conv_7x1_1x7",
    "conv_3x3",
    "conv_5x5",
    "conv_7x7",
    "msa",
    "cse",
)
HEADS = 8
"""Heads of self-attention, `msa`."""

Edge = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Genotype:
    """Two cells. Each has steps; step i sums two operations, each applied to an earlier state.

    Attributes:
        normal, reduce: (operation, state) pairs, two a step. States 0 and 1 are the outputs of the two cells before,
            state 2 + i that of step i.
        normal_concat, reduce_concat: the states whose concatenation leaves the cell.

    Raises:
        OptionError: an unknown operation, or a state that does not exist yet.
    """

    normal: tuple[Edge, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Edge, ...]
    reduce_concat: tuple[int, ...]

    def __post_init__(self) -> None:
        for cell, concat in ((self.normal, self.normal_concat), (self.reduce, self.reduce_concat)):
            if not cell or len(cell) % 2 or not concat:
                raise OptionError(f"genotype: a cell of {len(cell)} operations; each step needs two")
            for i, (operation, state) in enumerate(cell):
                if operation not in OPERATIONS:
                    raise OptionError(f"genotype: no operation {operation!r}; there are {', '.join(OPERATIONS)}")
                if not 0 <= state < 2 + i // 2:
                    raise OptionError(f"genotype: step {i // 2} reads state {state}, which does not exist yet")
            if any(not 0 <= state < 2 + len(cell) // 2 for state in concat):
                raise OptionError(f"genotype: the cell has no state {max(concat)} to concatenate")

    @classmethod
    def from_dict(cls, values: JsonView) -> Genotype:
        """From the JSON form of the DeepNets-1M files. Raises OptionError."""
        try:
            return cls(
                normal=_edges(values["normal"]),
                normal_concat=tuple(int(state) for state in values["normal_concat"]),
                reduce=_edges(values["reduce"]),
                reduce_concat=tuple(int(state) for state in values["reduce_concat"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise OptionError(f"genotype: {type(error).__name__} {error} in {str(values)[:80]}") from error

    def cell(self, reduction: bool) -> tuple[tuple[Edge, ...], tuple[int, ...]]:
        """The (operation, state) pairs of a cell and the states that leave it."""
        return (self.reduce, self.reduce_concat) if reduction else (self.normal, self.normal_concat)

    @property
    def operations(self) -> tuple[str, ...]:
        """All operations of both cells."""
        return tuple(operation for operation, _ in (*self.normal, *self.reduce))

    @property
    def is_vit(self) -> bool:
        """Whether self-attention is among the operations: such nets have a ViT's stem and no strides in cells."""
        return "msa" in self.operations


def _edges(pairs: Sequence[Sequence[Any]]) -> tuple[Edge, ...]:
    return tuple((str(operation), int(state)) for operation, state in pairs)


# Two edges, which are one step, on each line.
DARTS = Genotype(
    normal=(
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1), ("skip_connect", 0),
        ("skip_connect", 0), ("dil_conv_3x3", 2),
    ),
    normal_concat=(2, 3, 4, 5),
    reduce=(
        ("max_pool_3x3", 0), ("max_pool_3x3", 1),
        ("skip_connect", 2), ("max_pool_3x3", 1),
        ("max_pool_3x3", 0), ("skip_connect", 2),
        ("skip_connect", 2), ("max_pool_3x3", 1),
    ),
    reduce_concat=(2, 3, 4, 5),
)  # fmt: skip

PDARTS = Genotype(
    normal=(
        ("skip_connect", 0), ("dil_conv_3x3", 1),
        ("skip_connect", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 3),
        ("sep_conv_3x3", 0), ("dil_conv_5x5", 4),
    ),
    normal_concat=(2, 3, 4, 5),
    reduce=(
        ("avg_pool_3x3", 0), ("sep_conv_5x5", 1),
        ("sep_conv_3x3", 0), ("dil_conv_5x5", 2),
        ("max_pool_3x3", 0), ("dil_conv_3x3", 1),
        ("dil_conv_3x3", 1), ("dil_conv_5x5", 3),
    ),
    reduce_concat=(2, 3, 4, 5),
)  # fmt: skip

VIT = Genotype(
    normal=(("none", 0), ("msa", 1)),
    normal_concat=(2,),
    reduce=(("none", 0), ("avg_pool_3x3", 1)),
    reduce_concat=(2,),
)
