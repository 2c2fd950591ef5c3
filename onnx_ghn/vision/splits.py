"""Division of images into those for training, for validation and for the test."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import DataError
from onnx_ghn.vision.seeds import DIVISION, rng_for

__all__ = ["last_of_all", "last_of_each_class", "random_parts"]

Indices = npt.NDArray[np.int64]

_SHARE = 10  # a tenth of the images is held out
_IMAGENET_HELD_OUT = 50  # images held out of each class


def last_of_all(count: int) -> tuple[Indices, Indices]:
    """Training and validation images of the original CIFAR, whose last tenth is held out, as published."""
    cut = count - count // _SHARE
    return np.arange(cut), np.arange(cut, count)


def last_of_each_class(
    labels: Indices, classes: tuple[str, ...], where: str, *, imagenet: bool = False
) -> tuple[Indices, Indices]:
    """Training and validation images of sorted class folders: the last images of each class are held out.

    50 images of each class are held out for ImageNet, as published (a tenth of them where there are few), and a tenth
    for other data sets. CIFAR-10 as class folders, whose files have the original order within a class, gives about the
    images of the published split.

    Raises:
        DataError: a class has only one image.
    """
    train, held_out = [], []
    for own in _by_class(labels, classes, 2, where):
        count = max(1, len(own) // _SHARE)
        count = min(count, _IMAGENET_HELD_OUT) if imagenet else count
        train.append(own[:-count])
        held_out.append(own[-count:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(held_out))


def random_parts(labels: Indices, classes: tuple[str, ...], where: str, seed: int) -> tuple[Indices, Indices, Indices]:
    """Training, validation and test images of undivided class folders: the last two are a random tenth of each class.

    Raises:
        DataError: a class has fewer than three images.
    """
    rng = rng_for(seed, DIVISION)
    parts: tuple[list[Indices], ...] = ([], [], [])
    for own in _by_class(labels, classes, 3, where):
        mixed = rng.permutation(own)
        count = max(1, len(own) // _SHARE)
        for part, chosen in zip(parts, (mixed[2 * count :], mixed[count : 2 * count], mixed[:count]), strict=True):
            part.append(chosen)
    train, val, test = (np.sort(np.concatenate(part)) for part in parts)
    return train, val, test


def _by_class(labels: Indices, classes: tuple[str, ...], least: int, where: str) -> list[Indices]:
    groups = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels, minlength=len(classes)))[:-1])
    for name, own in zip(classes, groups, strict=True):
        if len(own) < least:
            raise DataError(
                f"{where}: class {name!r} has {len(own)} images, too few to divide; it needs at least {least}"
            )
    return groups
