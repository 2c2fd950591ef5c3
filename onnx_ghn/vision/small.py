"""Batches of small images, augmented as published, a whole batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack

import numpy as np
import numpy.typing as npt
import torch

from onnx_ghn.vision.arrays import check_sizes, eval_arrays, norm_for
from onnx_ghn.vision.pixels import blank_squares, normalise, resized, to_float, windows
from onnx_ghn.vision.seeds import AUGMENT, rng_for
from onnx_ghn.vision.sets import ImageSet
from onnx_ghn.vision.streams import Batch, EvalOptions, Stream, StreamOptions

__all__ = ["BatchStream", "eval_small"]


class BatchStream(Stream):
    """A stream of images that are held in memory.

    The augmentation is the published one: a random window of the image padded by 4 black pixels, mirrored at random.

    Args:
        images: the images.
        cutout: the side of a square at a random place that is set to the mean; 0 for none (published: 16).
        resize_to: scale images after the window is cut. Images that shrink are averaged over areas (a cheap
            curriculum). Images that grow are interpolated bilinearly and get ImageNet's normalisation, for networks
            that were trained there (published).
        batch_size, options: see `Stream`.
    """

    def __init__(
        self,
        images: ImageSet,
        batch_size: int = 64,
        *,
        cutout: int = 0,
        resize_to: int | None = None,
        **options: Unpack[StreamOptions],
    ) -> None:
        check_sizes(resize_to, cutout)
        super().__init__(len(images), batch_size, **options)
        self._images = images
        self._cutout = cutout
        self._resize_to = resize_to

    def batch(self, step: int) -> Batch:
        """The batch of any step. The stream does not move."""
        order = self._order
        mine = order.mine(step)
        pixels = self._images.images[mine]  # (B, H, W, 3)
        # Random numbers are drawn for all processes together, so that the number of processes changes nothing.
        random = rng_for(order.seed, AUGMENT, step).random((5, len(mine) * order.world))
        down, right, mirror, row, column = random[:, order.rank :: order.world]
        if self._augment:
            pixels = windows(pixels, down, right, mirror < 0.5)
        images = resized(to_float(pixels, channels_last=self._channels_last), self._resize_to)
        normalise(images, norm_for(self._images, self._resize_to))
        if self._cutout:
            blank_squares(images, row, column, self._cutout)
        return _batch(images, self._images.labels[mine], self._device)


def eval_small(images: ImageSet, options: EvalOptions, resize_to: int | None = None) -> Iterator[Batch]:
    """Iterate over every image once, without augmentation: see `eval_arrays`."""
    found = eval_arrays(
        images, options.batch_size, noise=options.noise, seed=options.seed, resize_to=resize_to,
        channels_last=options.channels_last,
    )  # fmt: skip
    for pixels, labels in found:
        yield _batch(pixels, labels, options.device)


def _batch(images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], device: torch.device) -> Batch:
    return Batch(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device))
