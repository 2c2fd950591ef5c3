"""The GHNs that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.ghn.config_files import CARD, CONFIG, read_config
from onnx_ghn.shipped import shipped_checkpoints, shipped_ghns

__all__ = ["CheckpointInfo", "list_ghns"]


class CheckpointInfo(NamedTuple):
    """A shipped GHN: the name that `load_ghn` takes, its folder, its config, the first line of its card."""

    name: str
    path: Path
    config: GHNConfig
    description: str


def list_ghns() -> list[CheckpointInfo]:
    """The shipped GHNs, by name.

    Raises:
        CheckpointError: a damaged config among them.
    """
    return [
        CheckpointInfo(folder.name, folder, read_config(folder / CONFIG), _describe(folder / CARD))
        for folder in shipped_ghns(shipped_checkpoints())
    ]


def _describe(card: Path) -> str:
    """The first line of prose of a card: past front matter, headings and blank lines."""
    try:
        lines = card.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    if lines and lines[0].strip() == "---" and "---" in lines[1:]:
        lines = lines[lines.index("---", 1) + 1 :]
    prose = (line.strip() for line in lines if line.strip() and not line.lstrip().startswith(("#", "|", "<", "!")))
    return next(prose, "")
