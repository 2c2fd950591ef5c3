"""Which tensor of a donor stands where a tensor of the recipient stands.

Blocks are aligned by dynamic programming along the main path, and the tensors of two blocks by the same within them
(Needleman & Wunsch 1970). What counts: the kind of a tensor, its kernel, its part in attention, how many weights lie
before and behind it in its block, the resolution of its map, the place of its block in the stage, and its widths.
Where the donor's stage has more blocks that are alike, the first of them are taken.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from onnx_ghn.inheritance.structure import MATRICES, Block, Piece, Structure

__all__ = ["Alignment", "align"]

_NEVER = -1e9
_ROUNDING = 1e-9
_EQUAL_KINDS = ({"conv", "linear"},)


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Donor's tensors by those of the recipient, and what is left over.

    Attributes:
        pairs: recipient's name -> donor's name.
        inserted: blocks of the recipient that no block of the donor stands for, by their numbers.
        score: the higher, the more alike.
        skipped: blocks of the donor that nothing stands for.
    """

    pairs: dict[str, str]
    inserted: tuple[int, ...]
    skipped: tuple[int, ...]
    score: float


def align(recipient: Structure, donor: Structure) -> Alignment:
    """Align the tensors of two models. Deterministic: of equal alignments, the one that begins earliest."""
    known: dict[tuple[object, object], tuple[float, tuple[tuple[int, int], ...]]] = {}
    mine, theirs = recipient.blocks, donor.blocks
    scores = np.full((len(mine), len(theirs)), _NEVER)
    for i, block in enumerate(mine):
        for j, other in enumerate(theirs):
            apart = abs(block.stage - other.stage)
            if apart > 1.6:
                continue
            value = _inside(block, other, known)[0]
            if value > 0:
                scores[i, j] = value - apart - 0.5 * _apart(block, other)
    mine_weights = [_weight(block) for block in mine]
    their_weights = [_weight(block) for block in theirs]
    matched, score = _path(scores, mine_weights, their_weights)
    pairs: dict[str, str] = {}
    for i, j in matched:
        for a, b in _inside(mine[i], theirs[j], known)[1]:
            pairs[mine[i].pieces[a].name] = theirs[j].pieces[b].name
    left = tuple(sorted(set(range(len(mine))) - {i for i, _ in matched}))
    over = tuple(sorted(set(range(len(theirs))) - {j for _, j in matched}))
    return Alignment(pairs, left, over, score)


def _apart(block: Block, other: Block) -> float:
    """How far apart two blocks stand in their stages, 0 to 2.

    Of more blocks that are alike the first are taken, as in weight selection (arXiv 2311.18823): what comes later
    expects the features that the first one makes; pairs of half the depth in benchmarks/inherit.py show what it is
    worth. Of fewer each stands before its share of the new ones: attention and MLP of a layer go together.
    """
    mine, theirs = block.n_alike, other.n_alike
    if mine == theirs:
        return abs(block.place - other.place)
    wanted = other.rank if mine < theirs else other.rank * mine // theirs
    return abs(block.begin - other.begin) + abs(block.rank - wanted) / (max(mine, theirs) - 1)


def _weight(block: Block) -> float:
    """What it costs to leave a block out."""
    return 0.2 * sum(0.5 if piece.kind in MATRICES else 0.1 for piece in block.pieces)


def _inside(
    block: Block, other: Block, known: dict[tuple[object, object], tuple[float, tuple[tuple[int, int], ...]]]
) -> tuple[float, tuple[tuple[int, int], ...]]:
    """Score and pairs of the tensors of two blocks."""
    key = (block.signature, other.signature)
    if key not in known:
        scores = np.array([[_alike(a, b) for b in other.pieces] for a in block.pieces]).reshape(
            len(block.pieces), len(other.pieces)
        )
        costs = [[0.3 if piece.kind in MATRICES else 0.1 for piece in one.pieces] for one in (block, other)]
        matched, score = _path(scores, *costs)
        if (block.merge >= 0) != (other.merge >= 0):
            score -= 0.5
        known[key] = (score, tuple(matched))
    return known[key]


def _alike(a: Piece, b: Piece) -> float:
    """How well one tensor stands for another one; never where they are of other kinds."""
    if a.kind != b.kind and not any({a.kind, b.kind} <= kinds for kinds in _EQUAL_KINDS):
        return _NEVER
    is_matrix = a.kind in MATRICES
    if is_matrix and a.is_last != b.is_last and (a.is_last or b.is_last):
        return _NEVER
    if a.part != b.part:
        return _NEVER
    score = 2.0 if is_matrix else 1.0
    score -= 0.3 * min(3, abs(a.level - b.level)) + 0.2 * min(3, abs(a.height - b.height))
    score -= 0.4 * (a.kernel != b.kernel) + 0.8 * (a.is_first != b.is_first)
    theirs = dict(b.sizes)
    for role, size in a.sizes:
        if role in theirs and not role.startswith("kernel"):
            score -= 0.05 * min(6.0, abs(math.log2(size / theirs[role])))
    return score


def _path(scores: np.ndarray, mine: Sequence[float], theirs: Sequence[float]) -> tuple[list[tuple[int, int]], float]:
    """The best pairs in order, and their score; leaving one out costs what is said of it."""
    n, m = scores.shape if scores.size else (len(mine), len(theirs))
    best = [[0.0] * (m + 1) for _ in range(n + 1)]
    for j in range(m - 1, -1, -1):
        best[n][j] = best[n][j + 1] - theirs[j]
    rows = scores.tolist() if scores.size else []
    for i in range(n - 1, -1, -1):
        row, below = best[i], best[i + 1]
        row[m] = below[m] - mine[i]
        for j in range(m - 1, -1, -1):
            row[j] = max(below[j + 1] + rows[i][j], below[j] - mine[i], row[j + 1] - theirs[j])
    matched = []
    i = j = 0
    while i < n and j < m:
        # Sums of the same numbers in another order may differ in their last bit: such alignments are equal.
        if best[i + 1][j + 1] + rows[i][j] >= best[i][j] - _ROUNDING and rows[i][j] > _NEVER / 2:
            matched.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j] - mine[i]:
            i += 1
        else:
            j += 1
    return matched, best[0][0]
