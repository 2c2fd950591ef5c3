"""Batches of small images, augmented as published, a whole batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack

import numpy as np
import numpy.typing as npt
import torch

from onnx_ghn.errors import OptionError
from onnx_ghn.vision.pixels import add_noise, blank_squares, normalise, resized, to_float, windows
from onnx_ghn.vision.seeds import AUGMENT, EVAL_ORDER, NOISE, rng_for
from onnx_ghn.vision.sets import IMAGENET_NORM, ImageSet, Normalisation
from onnx_ghn.vision.streams import Batch, EvalOptions, Stream, StreamOptions

__all__ = ["BatchStream", "eval_order", "eval_small"]


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
        _check_sizes(resize_to, cutout)
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
        normalise(images, _norm_for(self._images, self._resize_to))
        if self._cutout:
            blank_squares(images, row, column, self._cutout)
        return _batch(images, self._images.labels[mine], self._device)


def eval_small(images: ImageSet, options: EvalOptions, resize_to: int | None = None) -> Iterator[Batch]:
    """Iterate over every image once, without augmentation.

    Images come in the set's own order, or in a random one where the set is sorted by class: networks that are judged
    with the statistics of the batch need batches of mixed classes. The noise (published: a std of 0.08 of the range for
    CIFAR) of an image does not depend on the batch size.
    """
    _check_sizes(resize_to, 0)
    order = eval_order(images.labels, options.seed)
    norm = _norm_for(images, resize_to)
    for start in range(0, len(order), options.batch_size):
        mine = order[start : start + options.batch_size]
        pixels = resized(to_float(images.images[mine], channels_last=options.channels_last), resize_to)
        if options.noise:
            for image, index in zip(pixels, mine, strict=True):
                add_noise(image, images.norm.noise_std, rng_for(options.seed, NOISE, int(index)))
        normalise(pixels, norm)
        yield _batch(pixels, images.labels[mine], options.device)


def eval_order(labels: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """The set's own order, or a random order where the labels are sorted."""
    if np.all(np.diff(labels) >= 0):
        return rng_for(seed, EVAL_ORDER).permutation(len(labels))
    return np.arange(len(labels))


def _check_sizes(resize_to: int | None, cutout: int) -> None:
    if (resize_to is not None and resize_to < 1) or cutout < 0:
        raise OptionError(f"`resize_to` is {resize_to}, `cutout` {cutout}; choose positive sizes")


def _norm_for(images: ImageSet, resize_to: int | None) -> Normalisation:
    return IMAGENET_NORM if (resize_to or 0) > images.images.shape[1] else images.norm


def _batch(images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], device: torch.device) -> Batch:
    return Batch(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device))
