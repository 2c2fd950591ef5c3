"""A picture of two models side by side, with a line between each two blocks of which one stands for the other."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from onnx_ghn.drawing.elements import INK, MARGIN, MUTED, Text
from onnx_ghn.drawing.svg import svg_picture, svg_text, xml
from onnx_ghn.errors import OptionError
from onnx_ghn.onnx_io.transaction import check_target, write_file

__all__ = ["Box", "draw_side_by_side"]

_WIDTH, _HEIGHT, _GAP, _BETWEEN = 300.0, 22.0, 6.0, 180.0
_LONGEST = 40  # characters of a name
_PAIRED, _ALONE, _NEW = "#2f6fd0", "#b6bdc7", "#d98324"


@dataclasses.dataclass(frozen=True)
class Box:
    """A block: its name, what is said where the pointer rests on it, and what becomes of it.

    Attributes:
        kind: paired, new (it begins as the identity) or alone.
    """

    name: str
    told: str
    kind: str


def draw_side_by_side(
    left: Sequence[Box],
    right: Sequence[Box],
    links: Sequence[tuple[int, int]],
    path: str | os.PathLike[str],
    titles: tuple[str, str],
    *,
    force: bool = False,
) -> Path:
    """Write the picture, an SVG file.

    Args:
        links: numbers of a box on the left and of one on the right.
        titles: above the two columns.

    Raises:
        OptionError: another suffix.
        ModelWriteError: the file exists, or cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != ".svg":
        raise OptionError(f"{target}: the picture of an alignment is an .svg file; name one")
    check_target(target, force, "a picture")
    step = _HEIGHT + _GAP
    top = MARGIN + 2 * step
    height = top + step * max(len(left), len(right), 1) + MARGIN
    width = 2 * MARGIN + 2 * _WIDTH + _BETWEEN
    far = MARGIN + _WIDTH + _BETWEEN
    parts = [
        svg_text(Text(x, MARGIN + 8, title, 15, bold=True)) for x, title in zip((MARGIN, far), titles, strict=True)
    ]
    for a, b in links:
        y, z = (top + step * number + _HEIGHT / 2 for number in (a, b))
        start, end = MARGIN + _WIDTH, far
        bend = _BETWEEN / 2
        parts.append(
            f'<path d="M{start:g} {y:g} C{start + bend:g} {y:g} {end - bend:g} {z:g} {end:g} {z:g}" fill="none" '
            f'stroke="{_PAIRED}" stroke-opacity="0.6" stroke-width="1.5"/>'
        )
    for x, boxes in ((MARGIN, left), (far, right)):
        for number, box in enumerate(boxes):
            y = top + step * number
            ink = INK if box.kind != "alone" else MUTED
            colour = {"paired": _PAIRED, "new": _NEW}.get(box.kind, _ALONE)
            parts.append(
                f'<g><title>{xml(box.told)}</title><rect x="{x:g}" y="{y:g}" width="{_WIDTH:g}" '
                f'height="{_HEIGHT:g}" rx="4" fill="{colour}" fill-opacity="0.12" stroke="{colour}"/>'
                f"{svg_text(Text(x + 8, y + 15, _short(box.name), 11, ink))}</g>"
            )
    picture = svg_picture(width, height, " and ".join(titles), "", parts)
    return write_file(target, picture.encode(), force=force, what="a picture")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"…{name[-_LONGEST + 1 :]}"
