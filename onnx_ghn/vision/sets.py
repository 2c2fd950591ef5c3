"""Image data sets: small images decoded in memory, large ones as files, and subsets of either."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import DataError
from onnx_ghn.images.files import ImageSource
from onnx_ghn.vision.seeds import SHOTS, rng_for

__all__ = ["CIFAR_NORM", "IMAGENET_NORM", "ImageFiles", "ImageSet", "Normalisation", "few_shot"]

Labels = npt.NDArray[np.int64]
Indices = Sequence[int] | npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """Channel statistics of pixels in [0, 1], and the std of the noise that evaluation may add to them."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    noise_std: float


# Published figures. The noise is of medium severity in Hendrycks & Dietterich, ICLR 2019.
CIFAR_NORM = Normalisation((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768), 0.08)
IMAGENET_NORM = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.18)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Decoded images of one small size: uint8, N × height × width × 3."""

    images: npt.NDArray[np.uint8]
    labels: Labels
    classes: tuple[str, ...]
    name: str
    norm: Normalisation = CIFAR_NORM

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Indices) -> Self:
        """The images at `indices`, in that order."""
        return dataclasses.replace(self, images=self.images[indices], labels=self.labels[indices])


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images of any size, which are decoded when they are needed. `onnx_ghn.vision.large` makes batches of them."""

    source: ImageSource
    names: npt.NDArray[np.str_]  # files in `source`; an array, since every worker would copy a list of strings
    labels: Labels
    classes: tuple[str, ...]
    name: str
    image_size: int = 224  # side of the square that is cropped
    norm: Normalisation = IMAGENET_NORM

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Indices) -> Self:
        """The images at `indices`, in that order."""
        return dataclasses.replace(self, names=self.names[indices], labels=self.labels[indices])


_Images = TypeVar("_Images", ImageSet, ImageFiles)


def few_shot(images: _Images, per_class: int, *, skip: int = 0, seed: int | None = None) -> _Images:
    """Take the first images of each class, in the order of the whole set (the published rule).

    Args:
        images: the whole set.
        per_class: how many images of each class to take.
        skip: how many images of each class to leave out first: `few_shot(train, 20, skip=100)` gives validation images
            that are not among 100 shots.
        seed: take random images instead. A seed stands for one order, so that `skip` has the same meaning.

    Raises:
        DataError: a class has too few images.
    """
    order = np.arange(len(images)) if seed is None else rng_for(seed, SHOTS).permutation(len(images))
    chosen = []
    for label, name in enumerate(images.classes):
        own = order[images.labels[order] == label][skip : skip + per_class]
        if len(own) < per_class:
            n_images = int(np.sum(images.labels == label))
            raise DataError(
                f"{images.name}: class {name!r} has {n_images} images, {skip + per_class} are asked for; take fewer"
            )
        chosen.append(own)
    return images.subset(np.sort(np.concatenate(chosen)))
