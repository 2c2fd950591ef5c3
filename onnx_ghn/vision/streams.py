"""Batches of small images, augmented as published, a whole batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from onnx_ghn.errors import OptionError
from onnx_ghn.vision.order import BatchOrder
from onnx_ghn.vision.pixels import add_noise, blank_squares, normalise, resized, to_float, windows
from onnx_ghn.vision.seeds import AUGMENT, EVAL_ORDER, NOISE, rng_for
from onnx_ghn.vision.sets import IMAGENET_NORM, ImageSet, Normalisation

__all__ = ["Batch", "BatchStream", "eval_order", "eval_small"]


class Batch(NamedTuple):
    images: torch.Tensor  # (B, 3, H, W) float32, normalised
    labels: torch.Tensor  # (B,) int64


class BatchStream:
    """An endless stream of training batches. Each depends only on the seed and the step (and on `rank` of `world`).

        for images, labels in stream:  # the rest of the epoch that the stream is in
            ...

    Args:
        images: the images.
        batch_size: the number of images in a batch of this process.
        seed: the seed of order and augmentation.
        augment: take a random window of the image padded by 4 black pixels, and mirror it at random (published).
        cutout: the side of a square at a random place that is set to the mean; 0 for none (published: 16).
        resize_to: scale images after the window is cut. Images that shrink are averaged over areas (a cheap
            curriculum). Images that grow are interpolated bilinearly and get ImageNet's normalisation, for networks
            that were trained there (published).
        rank, world: the number of this process, and of all processes. Together they see the batches of one process with
            `world` times the batch size.
        drop_last: leave out the last batch of an epoch where it is smaller; the published code does not.
        channels_last: memory format of the images. PyTorch's convolutions on CPUs are several times faster with it.
        device: where the batches go.
    """

    def __init__(
        self,
        images: ImageSet,
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
    ) -> None:
        _check_sizes(resize_to, cutout)
        self._images = images
        self._augment = augment
        self._cutout = cutout
        self._resize_to = resize_to
        self._channels_last = channels_last
        self._device = torch.device(device)
        self._order = BatchOrder(len(images), batch_size, seed, rank, world, drop_last)

    @property
    def steps_per_epoch(self) -> int:
        return self._order.steps_per_epoch

    @property
    def batch_size(self) -> int:
        return self._order.batch_size

    @property
    def step(self) -> int:
        """The next batch, counted from the start of the first epoch."""
        return self._order.step

    @property
    def epoch(self) -> int:
        """The epoch that the next batch belongs to."""
        return self._order.epoch

    def __iter__(self) -> Iterator[Batch]:
        """The remaining batches of the present epoch; after its last batch, those of the next epoch."""
        end = (self.epoch + 1) * self.steps_per_epoch
        while self.step < end:
            yield next(self)

    def __next__(self) -> Batch:
        batch = self.batch(self._order.step)
        self._order.step += 1
        return batch

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

    def state_dict(self) -> dict[str, int]:
        """The state of the stream, as plain numbers."""
        return self._order.state_dict()

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue where a saved stream was.

        Raises:
            CheckpointError: it was a stream of other images, or with another seed, batch size or number of processes.
        """
        self._order.load_state_dict(state)


def eval_small(
    images: ImageSet,
    batch_size: int = 64,
    *,
    noise: bool = False,
    seed: int = 1111,
    resize_to: int | None = None,
    channels_last: bool = False,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Iterate over every image once, without augmentation.

    Images come in the set's own order, or in a random one where the set is sorted by class: networks that are judged
    with the statistics of the batch need batches of mixed classes.

    Args:
        noise: add Gaussian noise to the pixels (published: a std of 0.08 of the range for CIFAR). The noise of an image
            does not depend on the batch size.
    """
    _check_sizes(resize_to, 0)
    if batch_size < 1 or seed < 0:
        raise OptionError(f"batches of {batch_size} with seed {seed}: `batch_size` begins at 1, `seed` at 0")
    order = eval_order(images.labels, seed)
    norm = _norm_for(images, resize_to)
    for start in range(0, len(order), batch_size):
        mine = order[start : start + batch_size]
        pixels = resized(to_float(images.images[mine], channels_last=channels_last), resize_to)
        if noise:
            for image, index in zip(pixels, mine, strict=True):
                add_noise(image, images.norm.noise_std, rng_for(seed, NOISE, int(index)))
        normalise(pixels, norm)
        yield _batch(pixels, images.labels[mine], torch.device(device))


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
