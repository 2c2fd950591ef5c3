"""The files of data sets: where they are, and one clear line where they are not."""

from __future__ import annotations

import zipfile
from pathlib import Path

from racing.parts import DataAbsentError

__all__ = ["archive", "existing"]


def existing(path: Path) -> Path:
    """The path, if there is something. Raises DataAbsentError otherwise."""
    if not path.exists():
        raise DataAbsentError(f"{path} does not exist")
    return path


def archive(path: Path) -> zipfile.ZipFile:
    """A zip archive to read from."""
    return zipfile.ZipFile(existing(path))
