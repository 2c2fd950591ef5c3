"""Batches of small images, augmented as published, a whole batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

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
    """Training batches without end. A batch depends only on the seed and the step (and `rank` of `world`).

        for images, labels in stream:  # the rest of the epoch that the stream is in
            ...

    Args:
        images: the images.
        batch_size: of this process.
        seed: of order and augmentation.
        augment: random window of the image padded by 4 black pixels, random mirroring (published).
        cutout: side of a square at a random place that is blanked with the mean; 0 for none (published: 16).
        resize_to: scale images after the window is cut: averages of areas where they shrink (a cheap curriculum), else
            bilinear and with ImageNet's normalisation, for networks that were trained there (published).
        rank, world: this process of how many; together they see the batches of one with `world` times the batch size.
        drop_last: leave out an epoch's last batch when it is smaller; published: kept.
        channels_last: memory format of the images; PyTorch's convolutions on CPU are several times faster with it.
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
        """That the next batch belongs to."""
        return self._order.epoch

    def __iter__(self) -> Iterator[Batch]:
        """The batches that are left of the present epoch, all of one right after the last."""
        end = (self.epoch + 1) * self.steps_per_epoch
        while self.step < end:
            yield next(self)

    def __next__(self) -> Batch:
        batch = self.batch(self._order.step)
        self._order.step += 1
        return batch

    def batch(self, step: int) -> Batch:
        """The batch of any step; the stream stays where it is."""
        order = self._order
        mine = order.mine(step)
        pixels = self._images.images[mine]  # (B, H, W, 3)
        # Random numbers are drawn for all processes together, so that their number changes nothing.
        drawn = rng_for(order.seed, AUGMENT, step).random((5, len(mine) * order.world))
        top, left, mirror, row, column = drawn[:, order.rank :: order.world]
        if self._augment:
            pixels = windows(pixels, top, left, mirror < 0.5)
        images = resized(to_float(pixels, channels_last=self._channels_last), self._resize_to)
        normalise(images, _norm_for(self._images, self._resize_to))
        if self._cutout:
            blank_squares(images, row, column, self._cutout)
        return _batch(images, self._images.labels[mine], self._device)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is, as plain numbers."""
        return self._order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a saved stream was.

        Raises:
            CheckpointError: it was of other images, seed, batch size or number of processes.
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
    """Every image once, not augmented: in the set's own order, or mixed where it is sorted by class.

    Networks that are judged with batch statistics need batches of mixed classes.

    Args:
        noise: add Gaussian noise to the pixels (published: std 0.08 of the range for CIFAR); an image's noise is the
            same in every batch size.
    """
    _check_sizes(resize_to, 0)
    if batch_size < 1 or seed < 0:
        raise OptionError(f"batches of {batch_size} with seed {seed}: sizes begin at 1, seeds at 0")
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
    """The set's own order, or a random one where labels are sorted."""
    if np.all(np.diff(labels) >= 0):
        return rng_for(seed, EVAL_ORDER).permutation(len(labels))
    return np.arange(len(labels))


def _check_sizes(resize_to: int | None, cutout: int) -> None:
    if (resize_to is not None and resize_to < 1) or cutout < 0:
        raise OptionError(f"image size {resize_to}, cutout {cutout}: choose positive sizes")


def _norm_for(images: ImageSet, resize_to: int | None) -> Normalisation:
    return IMAGENET_NORM if (resize_to or 0) > images.images.shape[1] else images.norm


def _batch(images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], device: torch.device) -> Batch:
    return Batch(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device))
