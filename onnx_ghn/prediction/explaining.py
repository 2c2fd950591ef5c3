"""The alignment of a model and its donor: which blocks stand for which, and a picture of it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

from onnx_ghn.drawing.side_by_side import Box, draw_side_by_side
from onnx_ghn.inheritance.inheriting import Inheritance
from onnx_ghn.inheritance.structure import Block
from onnx_ghn.inheritance.tracing import Trace

__all__ = ["Aligned", "AlignedBlock", "aligned_blocks", "draw_alignment"]

_NAMED = 8  # tensors of a block that are told one by one


@dataclasses.dataclass(frozen=True)
class AlignedBlock:
    """A block of one of both models.

    Attributes:
        name: what the names of its tensors have in common.
        tensors: their names.
        kind: paired; new, of a block that begins as the identity; or alone.
    """

    name: str
    tensors: tuple[str, ...]
    kind: Literal["paired", "new", "alone"]


@dataclasses.dataclass(frozen=True)
class Aligned:
    """The blocks of a model beside those of the donor that is most like it.

    Attributes:
        model, donor: in the order of the main path.
        links: numbers of a block of the model and of one of the donor, of which some tensors stand for each other.
        donor_name: of the donor.
    """

    model: tuple[AlignedBlock, ...]
    donor: tuple[AlignedBlock, ...]
    links: tuple[tuple[int, int], ...]
    donor_name: str


def aligned_blocks(inheritance: Inheritance) -> Aligned:
    """The recipient's blocks beside those of the donor that is most like it."""
    donor, alignment = inheritance.donors[inheritance.closest], inheritance.alignments[inheritance.closest]
    mine, theirs = inheritance.structure.blocks, donor.structure.blocks
    their_place = {piece.name: number for number, block in enumerate(theirs) for piece in block.pieces}
    links = sorted(
        {
            (number, their_place[alignment.pairs[piece.name]])
            for number, block in enumerate(mine)
            for piece in block.pieces
            if piece.name in alignment.pairs
        }
    )
    paired, taken = {a for a, _ in links}, {b for _, b in links}
    return Aligned(
        tuple(
            AlignedBlock(
                _name(block),
                _tensors(block, inheritance.trace),
                "paired" if i in paired else "new" if _is_new(inheritance, block) else "alone",
            )
            for i, block in enumerate(mine)
        ),
        tuple(
            AlignedBlock(_name(block), _tensors(block, donor.trace), "paired" if i in taken else "alone")
            for i, block in enumerate(theirs)
        ),
        tuple(links),
        donor.name,
    )


def draw_alignment(inheritance: Inheritance, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Draw the recipient's blocks beside those of the donor that is most like it.

    Raises:
        OptionError: the path does not end in .svg.
        ModelWriteError: the file exists, or cannot be written.
    """
    found = aligned_blocks(inheritance)
    left = [
        Box(
            block.name,
            "\n".join(f"{name}: {_origin(inheritance, name)}" for name in block.tensors[:_NAMED]),
            block.kind,
        )
        for block in found.model
    ]
    right = [Box(block.name, "\n".join(block.tensors[:_NAMED]), block.kind) for block in found.donor]
    return draw_side_by_side(left, right, found.links, path, ("the model", found.donor_name), force=force)


def _tensors(block: Block, trace: Trace) -> tuple[str, ...]:
    return tuple(dict.fromkeys(trace.whole(piece.name) for piece in block.pieces))


def _name(block: Block) -> str:
    """The part of their names that the tensors of a block share, or the first name."""
    names = [piece.name.replace("/", ".").split(".") for piece in block.pieces]
    shared = []
    for parts in zip(*names, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared) or block.pieces[0].name


def _origin(inheritance: Inheritance, name: str) -> str:
    found = inheritance.tensors.get(name)
    if found is None:
        return inheritance.kept.get(name, "no counterpart")
    return f"{found.source}, {found.rule}" if found.source else found.rule


def _is_new(inheritance: Inheritance, block: Block) -> bool:
    return any(name in inheritance.tensors for name in _tensors(block, inheritance.trace))
