"""Training and evaluation batches of any loaded data set."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from onnx_ghn.errors import OptionError
from onnx_ghn.vision.large import FileStream, eval_files
from onnx_ghn.vision.sets import ImageFiles, ImageSet
from onnx_ghn.vision.streams import Batch, BatchStream, eval_small

__all__ = ["eval_batches", "train_stream"]


def train_stream(
    images: ImageSet | ImageFiles,
    batch_size: int = 64,
    *,
    seed: int = 1111,
    augment: bool = True,
    cutout: int = 0,
    resize_to: int | None = None,
    rank: int = 0,
    world: int = 1,
    drop_last: bool = False,
    channels_last: bool = False,
    device: torch.device | str = "cpu",
    workers: int | None = None,
) -> BatchStream | FileStream:
    """Make a stream of training batches with the published augmentation: see `BatchStream` and `FileStream`.

    Raises:
        OptionError: an option has no meaning, or none for these images.
    """
    if isinstance(images, ImageSet):
        return BatchStream(
            images,
            batch_size,
            seed=seed,
            augment=augment,
            cutout=cutout,
            resize_to=resize_to,
            rank=rank,
            world=world,
            drop_last=drop_last,
            channels_last=channels_last,
            device=device,
        )
    _small_only(images, cutout, resize_to)
    return FileStream(
        images,
        batch_size,
        seed=seed,
        augment=augment,
        rank=rank,
        world=world,
        drop_last=drop_last,
        channels_last=channels_last,
        device=device,
        workers=workers,
    )


def eval_batches(
    images: ImageSet | ImageFiles,
    batch_size: int = 64,
    *,
    noise: bool = False,
    seed: int = 1111,
    resize_to: int | None = None,
    channels_last: bool = False,
    device: torch.device | str = "cpu",
    workers: int | None = None,
) -> Iterator[Batch]:
    """Iterate over every image once, as published: see `eval_small` and `eval_files`.

    Raises:
        OptionError: an option has no meaning, or none for these images.
    """
    if isinstance(images, ImageSet):
        return eval_small(
            images,
            batch_size,
            noise=noise,
            seed=seed,
            resize_to=resize_to,
            channels_last=channels_last,
            device=device,
        )
    _small_only(images, 0, resize_to)
    return eval_files(
        images, batch_size, noise=noise, seed=seed, channels_last=channels_last, device=device, workers=workers
    )


def _small_only(images: ImageFiles, cutout: int, resize_to: int | None) -> None:
    if cutout or resize_to is not None:
        raise OptionError(
            f"{images.name}: `cutout` and `resize_to` are for small images that are held in memory; set `image_size` "
            "where the data set is loaded"
        )
