"""Which images are for training, which for validation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import DataError

__all__ = ["last_of_all", "last_of_each_class", "random_parts"]

Indices = npt.NDArray[np.int64]

_SHARE = 10  # a tenth is held out
_IMAGENET_HELD_OUT = 50  # of each class


def last_of_all(count: int) -> tuple[Indices, Indices]:
    """Training and validation images of the original CIFAR: its last tenth is held out (published)."""
    cut = count - count // _SHARE
    return np.arange(cut), np.arange(cut, count)


def last_of_each_class(labels: Indices, where: str, *, imagenet: bool = False) -> tuple[Indices, Indices]:
    """Training and validation images where class folders are sorted: the last of each class are held out.

    For ImageNet 50 of each (published; a tenth where there are few), else a tenth: of CIFAR-10 as class folders, whose
    files keep the original order within a class, those are about the images of the published split.

    Raises:
        DataError: a class of one image.
    """
    train, held_out = [], []
    for own in _by_class(labels, 2, where):
        count = max(1, len(own) // _SHARE)
        count = min(count, _IMAGENET_HELD_OUT) if imagenet else count
        train.append(own[:-count])
        held_out.append(own[-count:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(held_out))


def random_parts(labels: Indices, where: str, seed: int) -> tuple[Indices, Indices, Indices]:
    """Training, validation and test images of undivided class folders: of each class a random tenth for each of the last two.

    Raises:
        DataError: a class of fewer than three images.
    """
    rng = np.random.default_rng(seed)
    parts: tuple[list[Indices], ...] = ([], [], [])
    for own in _by_class(labels, 3, where):
        mixed = rng.permutation(own)
        count = max(1, len(own) // _SHARE)
        for part, chosen in zip(parts, (mixed[2 * count :], mixed[count : 2 * count], mixed[:count]), strict=True):
            part.append(chosen)
    train, val, test = (np.sort(np.concatenate(part)) for part in parts)
    return train, val, test


def _by_class(labels: Indices, least: int, where: str) -> list[Indices]:
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    for label, own in enumerate(groups):
        if len(own) < least:
            raise DataError(f"{where}: class {label} (of 0 to {len(groups) - 1}) has {len(own)} images; splitting needs {least}")
    return groups
