"""What SVG pictures have in common: a font, texts that XML can hold, a white ground."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

from onnx_ghn.drawing.elements import Text

__all__ = ["printable", "svg_picture", "svg_text", "xml"]

_FONT = "Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def printable(text: str) -> str:
    """Without the control characters that XML cannot hold: each becomes "�"."""
    return _NOT_XML.sub("\ufffd", text)


def xml(text: str) -> str:
    """A text as XML writes it."""
    return escape(printable(text))


def svg_text(text: Text) -> str:
    """A line of text."""
    extra = ' font-weight="600"' if text.bold else ""
    if text.anchor != "start":
        extra += f' text-anchor="{text.anchor}"'
    return (
        f'<text x="{text.x:.1f}" y="{text.y:.1f}" font-size="{text.size:.1f}" fill="{text.colour}"{extra}>'
        f"{xml(text.text)}</text>"
    )


def svg_picture(width: float, height: float, name: str, style: str, parts: list[str]) -> str:
    """A whole picture on white, from back to front.

    Args:
        name: what it is of, for those who hear it read.
        style: CSS beside the font.
    """
    view = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view} role="img">',
        f"<title>{xml(name)}</title>",
        f"<style>text{{font-family:{_FONT}}}{style}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        *parts,
        "</svg>\n",
    ]
    return "\n".join(lines)
