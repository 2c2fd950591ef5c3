"""Which format a file of architectures has, opening one, and whether one may be written."""

from __future__ import annotations

import os
from collections.abc import Iterable

from onnx_ghn.deepnets1m.compact import CompactFile
from onnx_ghn.deepnets1m.official import OfficialFile
from onnx_ghn.deepnets1m.records import DeepNetsFile
from onnx_ghn.errors import DataError
from onnx_ghn.onnx_io import check_target

__all__ = ["check_outputs", "is_official", "open_deepnets"]

_OFFICIAL_SUFFIXES = (".hdf5", ".h5")


def is_official(path: str | os.PathLike[str]) -> bool:
    """Whether a file of this name is of the official kind (HDF5), else of the compact one (JSON lines)."""
    return os.fspath(path).lower().endswith(_OFFICIAL_SUFFIXES)


def open_deepnets(path: str | os.PathLike[str]) -> DeepNetsFile:
    """Open a file of architectures, official or compact as its name ends.

    Raises:
        DataError: absent, damaged, or another kind of file.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        what = "is a folder; name a file in it" if os.path.isdir(path) else "no such file"
        raise DataError(f"{path}: {what} (deepnets generate makes one; published ones end in .hdf5)")
    return OfficialFile(path) if is_official(path) else CompactFile(path)


def check_outputs(paths: Iterable[str], force: bool) -> None:
    """Refuse names that cannot or should not be written. Raises ModelWriteError."""
    for path in paths:
        check_target(path, force)
