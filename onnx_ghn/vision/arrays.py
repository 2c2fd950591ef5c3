"""Batches of small images for an evaluation, as arrays. No torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import OptionError
from onnx_ghn.vision.pixels import add_noise, normalise, resized, to_float
from onnx_ghn.vision.seeds import EVAL_ORDER, NOISE, rng_for
from onnx_ghn.vision.sets import IMAGENET_NORM, ImageSet, Normalisation

__all__ = ["check_sizes", "eval_arrays", "eval_order", "norm_for"]


def eval_arrays(
    images: ImageSet,
    batch_size: int = 64,
    *,
    noise: bool = False,
    seed: int = 1111,
    resize_to: int | None = None,
    channels_last: bool = False,
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """Iterate over every image once, without augmentation: (B, 3, H, W) normalised images and (B,) labels.

    Images come in the set's own order, or in a random one where the set is sorted by class: networks that are judged
    with the statistics of the batch need batches of mixed classes. The noise (published: a std of 0.08 of the range for
    CIFAR) of an image does not depend on the batch size.

    Args:
        noise: add Gaussian noise to the pixels.
        seed: of the noise, and of the order where that is random.
        resize_to: the side to scale the images to.
        channels_last: how they lie in memory.

    Raises:
        OptionError: an option has no meaning.
    """
    check_sizes(resize_to, 0)
    order = eval_order(images.labels, seed)
    norm = norm_for(images, resize_to)
    for start in range(0, len(order), batch_size):
        mine = order[start : start + batch_size]
        pixels = resized(to_float(images.images[mine], channels_last=channels_last), resize_to)
        if noise:
            for image, index in zip(pixels, mine, strict=True):
                add_noise(image, images.norm.noise_std, rng_for(seed, NOISE, int(index)))
        normalise(pixels, norm)
        yield pixels, images.labels[mine]


def eval_order(labels: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """The set's own order, or a random order where the labels are sorted."""
    if np.all(np.diff(labels) >= 0):
        return rng_for(seed, EVAL_ORDER).permutation(len(labels))
    return np.arange(len(labels))


def check_sizes(resize_to: int | None, cutout: int) -> None:
    """Refuse sizes that are none. Raises OptionError."""
    if (resize_to is not None and resize_to < 1) or cutout < 0:
        raise OptionError(f"`resize_to` is {resize_to}, `cutout` {cutout}; choose positive sizes")


def norm_for(images: ImageSet, resize_to: int | None) -> Normalisation:
    """The normalisation of the images, or ImageNet's where they grow."""
    return IMAGENET_NORM if (resize_to or 0) > images.images.shape[1] else images.norm
