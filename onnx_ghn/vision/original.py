"""CIFAR-10 and CIFAR-100 in their original files, as torchvision stores and downloads them."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.errors import DataError
from onnx_ghn.vision.sets import ImageSet

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

__all__ = ["ORIGINALS", "find_original", "original_files", "read_original"]

#: The names of the data sets, and of torchvision's classes for them.
ORIGINALS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
#: Their folder and their archive, as torchvision's classes name them: to look for them takes no torchvision.
_PLACES = {
    "cifar10": ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
    "cifar100": ("cifar-100-python", "cifar-100-python.tar.gz"),
}


def _torchvision_class(name: str) -> type[CIFAR10]:
    from torchvision import datasets

    kind: type[CIFAR10] = getattr(datasets, ORIGINALS[name])
    return kind


def find_original(name: str, folders: list[Path]) -> Path | None:
    """The first of `folders` that holds torchvision's files, unpacked or not."""
    inside, archive = _PLACES[name]
    for folder in folders:
        if (folder / inside).is_dir() or (folder / archive).is_file():
            return folder
    return None


def original_files(name: str, folder: Path) -> list[Path]:
    """The files that the images are read from; none where they are not unpacked yet."""
    kind = _torchvision_class(name)
    entries = [entry[0] for entry in (*kind.train_list, *kind.test_list)] + [kind.meta["filename"]]
    paths = [folder / kind.base_folder / entry for entry in entries]
    return paths if all(path.is_file() for path in paths) else []


def read_original(name: str, folder: Path, *, train: bool, download: bool) -> ImageSet:
    """Read one part. torchvision checks the files' checksums before it unpickles them.

    Raises:
        DataError: files are absent or damaged, or the download fails.
    """
    from torchvision.datasets.utils import check_integrity

    kind = _torchvision_class(name)
    archive = folder / kind.filename
    unpack = not (folder / kind.base_folder).is_dir() and archive.is_file()
    if unpack and not download and not check_integrity(str(archive), kind.tgz_md5):
        raise DataError(f"{archive}: damaged (wrong checksum); fetch it again, or set `download`")
    try:
        # torchvision reports its download on stdout, which is for results.
        with warnings.catch_warnings(), contextlib.redirect_stdout(None):
            warnings.simplefilter("ignore")  # they are pickles of an old numpy
            images = kind(str(folder), train=train, download=download or unpack)
    except (OSError, RuntimeError) as error:
        if download:
            raise DataError(
                f"{name}: could not be downloaded to {folder} ({error}); check the network and the free space"
            ) from error
        raise DataError(
            f"{folder / kind.base_folder}: incomplete or damaged (wrong checksum); delete it and fetch it again, "
            "or set `download`"
        ) from error
    return ImageSet(images.data, np.asarray(images.targets, np.int64), tuple(images.classes), name)
