"""Training and evaluation batches of any loaded data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack

import torch

from onnx_ghn.errors import OptionError
from onnx_ghn.vision.large import FileStream, eval_files
from onnx_ghn.vision.sets import ImageFiles, ImageSet
from onnx_ghn.vision.small import BatchStream, eval_small
from onnx_ghn.vision.streams import Batch, EvalOptions, StreamOptions

__all__ = ["eval_batches", "train_stream"]


def train_stream(
    images: ImageSet | ImageFiles,
    batch_size: int = 64,
    *,
    cutout: int = 0,
    resize_to: int | None = None,
    workers: int | None = None,
    **options: Unpack[StreamOptions],
) -> BatchStream | FileStream:
    """Make a stream of training batches with the published augmentation: see `Stream`, `BatchStream` and `FileStream`.

    Raises:
        OptionError: an option has no meaning, or none for these images.
    """
    if isinstance(images, ImageSet):
        return BatchStream(images, batch_size, cutout=cutout, resize_to=resize_to, **options)
    _small_only(images, cutout, resize_to)
    return FileStream(images, batch_size, workers=workers, **options)


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

    Args:
        noise: add Gaussian noise of the published width to the pixels.
        seed: of the noise, and of the order where that is random.

    Raises:
        OptionError: an option has no meaning, or none for these images.
    """
    if batch_size < 1 or seed < 0:
        raise OptionError(f"batches of {batch_size} with seed {seed}: `batch_size` begins at 1, `seed` at 0")
    options = EvalOptions(batch_size, noise, seed, channels_last, torch.device(device))
    if isinstance(images, ImageSet):
        return eval_small(images, options, resize_to)
    _small_only(images, 0, resize_to)
    return eval_files(images, options, workers)


def _small_only(images: ImageFiles, cutout: int, resize_to: int | None) -> None:
    if cutout or resize_to is not None:
        raise OptionError(
            f"{images.name}: `cutout` and `resize_to` are for small images that are held in memory; set `image_size` "
            "where the data set is loaded"
        )
