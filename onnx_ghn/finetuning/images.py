"""The images that a file is tuned on, in the size and layout that it takes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from onnx_ghn.errors import DataError, OptionError
from onnx_ghn.vision import (
    Batch,
    BatchStream,
    FileStream,
    ImageFiles,
    ImageSet,
    Split,
    eval_batches,
    load_dataset,
    train_stream,
)
from onnx_ghn.vision.dataset_folders import find_parts
from onnx_ghn.vision.seeds import DIVISION, rng_for

__all__ = ["Images", "load_images"]


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Images to train on and to judge on, and the side that small ones are scaled to."""

    train: ImageSet | ImageFiles
    held_out: ImageSet | ImageFiles
    resize_to: int | None

    def stream(self, batch_size: int, seed: int, *, augment: bool) -> BatchStream | FileStream:
        """Training batches. An epoch's last batch is left out where it is smaller: batch norms need a whole one."""
        if batch_size > len(self.train):
            raise OptionError(f"`batch_size` {batch_size}: there are {len(self.train)} training images; take fewer")
        return train_stream(
            self.train, batch_size, seed=seed, augment=augment, resize_to=self.resize_to, drop_last=True
        )

    def judging(self, batch_size: int) -> Iterator[Batch]:
        """The held-out images, each once."""
        return eval_batches(self.held_out, batch_size, resize_to=self.resize_to)


def load_images(
    data: str, data_dir: str | os.PathLike[str], side: int | None, val: str = "test", seed: int = 0
) -> Images:
    """Images of a data set.

    Args:
        data: cifar10, cifar100, or a folder or zip archive of class folders, with or without train/ and test/.
        side: that the model takes; None for the images' own.
        val: what to judge on: "test" for the data set's test images (of undivided class folders, a tenth), a share of
            each class of the training images, or another folder or zip archive of class folders.

    Raises:
        DataError, OptionError: data that cannot be read, or do not go together.
    """
    train, resize_to = _load(data, data_dir, "trainval", side)
    if val == "test":
        held_out, _ = _load(data, data_dir, "test", side)
    elif (share := _share(val)) is not None:
        train, held_out = _divide(train, share, seed)
    else:
        if not Path(val).exists():
            raise OptionError(f"`val` {val}: neither test, nor a share such as 0.1, nor a folder or zip archive")
        # Undivided class folders are for judging as they are; of a divided set it is the test images.
        undivided = find_parts(Path(val)).keys() <= {"all", "train"}
        held_out, other = _load(val, data_dir, "test", side, everything=undivided)
        if held_out.classes != train.classes:
            raise DataError(f"`val` {val}: classes {_few(held_out)}, not those of {data}: {_few(train)}")
        if type(held_out) is not type(train) or other != resize_to:
            raise DataError(f"`val` {val}: images of another size than those of {data}; scale them alike")
    return Images(train, held_out, resize_to)


def _load(
    data: str, data_dir: str | os.PathLike[str], split: Split, side: int | None, *, everything: bool = False
) -> tuple[ImageSet | ImageFiles, int | None]:
    images = _whole(data, data_dir, split, None, everything)
    if isinstance(images, ImageSet):  # small images are scaled batch by batch
        own = images.images.shape[1:3]
        if side is None and own[0] != own[1]:
            raise OptionError(f"{data}: images of {own[1]} × {own[0]}, and the model takes any size: make them square")
        return images, side if side is not None and own != (side, side) else None
    return (images if side is None else _whole(data, data_dir, split, side, everything)), None


def _whole(
    data: str, data_dir: str | os.PathLike[str], split: Split, side: int | None, everything: bool
) -> ImageSet | ImageFiles:
    images = load_dataset(data, data_dir, split, image_size=side)
    if not everything:
        return images
    rest = load_dataset(data, data_dir, "trainval", image_size=side)  # of one folder: one size, one source
    labels = np.concatenate([images.labels, rest.labels])
    if isinstance(images, ImageSet) and isinstance(rest, ImageSet):
        return dataclasses.replace(images, images=np.concatenate([images.images, rest.images]), labels=labels)
    assert isinstance(images, ImageFiles)
    assert isinstance(rest, ImageFiles)
    return dataclasses.replace(images, names=np.concatenate([images.names, rest.names]), labels=labels)


def _share(text: str) -> float | None:
    try:
        share = float(text)
    except ValueError:
        return None
    if not 0 < share < 1:
        raise OptionError(f"`val` {text}: a share lies between 0 and 1")
    return share


def _divide(
    images: ImageSet | ImageFiles, share: float, seed: int
) -> tuple[ImageSet | ImageFiles, ImageSet | ImageFiles]:
    """A random share of each class, one image at least, held out."""
    mixed = rng_for(seed, DIVISION).permutation(len(images))
    held_out = []
    for label, name in enumerate(images.classes):
        own = mixed[images.labels[mixed] == label]
        if len(own) < 2:
            raise DataError(f"{images.name}: class {name!r} has {len(own)} images, too few to hold any out")
        held_out.append(own[: min(max(1, round(share * len(own))), len(own) - 1)])
    is_held_out = np.zeros(len(images), bool)
    is_held_out[np.concatenate(held_out)] = True
    return images.subset(np.flatnonzero(~is_held_out)), images.subset(np.flatnonzero(is_held_out))


def _few(images: ImageSet | ImageFiles) -> str:
    return ", ".join(images.classes[:3]) + (f", … ({len(images.classes)})" if len(images.classes) > 3 else "")
