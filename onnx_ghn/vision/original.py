"""CIFAR-10 and CIFAR-100 in their original bytes, as torchvision keeps and downloads them."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import DataError

__all__ = ["ORIGINALS", "find_original", "original_files", "read_original"]

#: Names of data sets, and torchvision's classes for them.
ORIGINALS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}


def _torchvision_class(name: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, ORIGINALS[name])


def find_original(name: str, folders: list[Path]) -> Path | None:
    """The folder among `folders` in which torchvision's files lie, unpacked or not."""
    kind = _torchvision_class(name)
    for folder in folders:
        if (folder / kind.base_folder).is_dir() or (folder / kind.filename).is_file():
            return folder
    return None


def original_files(name: str, folder: Path) -> list[Path]:
    """What the images are read from, for a fingerprint; empty where they are not unpacked yet."""
    kind = _torchvision_class(name)
    entries = [entry[0] for entry in (*kind.train_list, *kind.test_list)] + [kind.meta["filename"]]
    paths = [folder / kind.base_folder / entry for entry in entries]
    return paths if all(path.is_file() for path in paths) else []


def read_original(
    name: str, folder: Path, *, train: bool, download: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], tuple[str, ...]]:
    """Images, labels and classes. torchvision checks the files' checksums before it unpickles them.

    Raises:
        DataError: absent or damaged files, a download that fails.
    """
    from torchvision.datasets.utils import check_integrity

    kind = _torchvision_class(name)
    archive = folder / kind.filename
    unpack = not (folder / kind.base_folder).is_dir() and archive.is_file()
    if unpack and not download and not check_integrity(str(archive), kind.tgz_md5):
        raise DataError(f"{archive}: damaged (wrong checksum); fetch it again, or choose to download")
    try:
        # torchvision speaks of its download on stdout, which is for results.
        with warnings.catch_warnings(), contextlib.redirect_stdout(None):
            warnings.simplefilter("ignore")  # pickles of an old numpy
            found = kind(str(folder), train=train, download=download or unpack)
    except (OSError, RuntimeError) as error:
        if download:
            raise DataError(
                f"{name}: could not be downloaded to {folder} ({error}); check network and space"
            ) from error
        raise DataError(
            f"{folder / kind.base_folder}: incomplete or damaged (wrong checksum); delete it and fetch it again, "
            "or choose to download"
        ) from error
    return found.data, np.asarray(found.targets, np.int64), tuple(found.classes)
