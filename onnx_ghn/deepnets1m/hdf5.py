"""Reading matrices from an HDF5 file of others: what lies in the file itself, in proportion to its size.

HDF5 can name data in other files (external links, external storage, virtual data sets), point with soft links at
anything, take gigabytes for the one chunk that a small data set is cut from, and load filters as code.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.installing import require
from onnx_ghn.reading import open_regular

__all__ = ["group_names", "open_hdf5", "read_matrix"]

_CHUNK_BYTES = 1 << 20  # a chunk up to this size is no matter, whatever the size of the data set
_CHUNK_RATIO = 4  # a larger one may be this many times as large as the data set
# deflate, shuffle, fletcher32, and h5py's own lzf (their numbers in H5Zpublic.h and lzf_filter.h).
_FILTERS = frozenset({1, 2, 3, 32000})
_MAX_FILE_RATIO = 1100  # deflate makes a byte out of a thousand at most; what is larger holds gaps


def open_hdf5(path: str) -> Any:
    """An h5py.File of a regular file. Raises OSError; NotInstalledError: there is no h5py."""
    h5py = require("h5py", "train")
    os.close(open_regular(path))
    return h5py.File(path, "r")


def group_names(file: Any) -> set[str]:
    """The groups that lie in the file itself."""
    import h5py

    return {
        str(name)
        for name in file
        if isinstance(file.get(name, getlink=True), h5py.HardLink) and file.get(name, getclass=True) is h5py.Group
    }


def read_matrix(file: Any, names: tuple[str, ...], shape: tuple[int, int]) -> Array:
    """A data set of unsigned integers; everything about it is checked before anything is allocated.

    Args:
        file: an h5py.File.
        names: of the groups, from the outermost, and of the data set.
        shape: that it must have.

    Raises:
        ValueError: it is of another shape or type, or not stored as plain numbers in the file itself.
        OSError, KeyError, RuntimeError, TypeError: h5py's, of what is absent or damaged.
    """
    import h5py

    here = file
    for name in names:
        link = here.get(name, getlink=True)
        if link is None:
            raise KeyError(name)
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name} is a link to another place; copy the data into the file")
        here = here[name]
    if not isinstance(here, h5py.Dataset):
        raise TypeError("no data set")
    if here.shape != shape or here.dtype.kind != "u":
        raise ValueError(f"is {here.dtype} {here.shape}, must be unsigned integers {shape}")
    if here.is_virtual or here.external:
        raise ValueError("its data lie in other files; copy them into the file")
    needed_bytes = math.prod(shape) * here.dtype.itemsize
    if here.chunks is not None:
        chunk_bytes = math.prod(here.chunks) * here.dtype.itemsize
        if chunk_bytes > max(_CHUNK_BYTES, _CHUNK_RATIO * needed_bytes):
            raise ValueError(f"its chunks of {chunk_bytes:,} bytes are out of proportion to its {needed_bytes:,}")
        made = here.id.get_create_plist()
        foreign = {made.get_filter(i)[0] for i in range(made.get_nfilters())} - _FILTERS
        if foreign:
            raise ValueError(f"is packed by the filter {min(foreign)}; store it with gzip, or as it is")
    stored_bytes = here.id.get_storage_size()
    if needed_bytes > max(_CHUNK_BYTES, _MAX_FILE_RATIO * stored_bytes):
        raise ValueError(f"its {needed_bytes:,} bytes are out of proportion to the {stored_bytes:,} that are stored")
    return np.asarray(here[()])
