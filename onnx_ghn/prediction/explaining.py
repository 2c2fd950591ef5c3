"""The alignment of a model and its donor as a picture."""

from __future__ import annotations

import os
from pathlib import Path

from onnx_ghn.drawing.side_by_side import Box, draw_side_by_side
from onnx_ghn.inheritance.inheriting import Inheritance
from onnx_ghn.inheritance.structure import Block

__all__ = ["draw_alignment"]

_NAMED = 8  # tensors of a block that are told one by one


def draw_alignment(inheritance: Inheritance, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Draw the recipient's blocks beside those of the donor that is most like it.

    Raises:
        OptionError: the path does not end in .svg.
        ModelWriteError: the file exists, or cannot be written.
    """
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
    left = [
        Box(
            _name(block),
            "\n".join(f"{piece.name}: {_origin(inheritance, piece.name)}" for piece in block.pieces[:_NAMED]),
            "paired" if i in paired else "new" if _is_new(inheritance, block) else "alone",
        )
        for i, block in enumerate(mine)
    ]
    right = [
        Box(_name(block), "\n".join(piece.name for piece in block.pieces[:_NAMED]), "paired" if i in taken else "alone")
        for i, block in enumerate(theirs)
    ]
    return draw_side_by_side(left, right, links, path, ("the model", donor.name), force=force)


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
    return any(piece.name in inheritance.tensors for piece in block.pieces)
