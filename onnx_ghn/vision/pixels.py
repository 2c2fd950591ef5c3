"""Operations on the pixels of a batch, in numpy: on tensors this small, PyTorch's threads cost more than they save."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
import numpy.typing as npt

from onnx_ghn.vision.sets import Normalisation

__all__ = ["PADDING", "add_noise", "blank_squares", "normalise", "resized", "to_float", "windows"]

PADDING = 4  # pixels of padding around an image, from which a window of the image's size is cut

Fractions = npt.NDArray[np.float64]  # positions in [0, 1), one for each image


def windows(
    pixels: npt.NDArray[np.uint8], down: Fractions, right: Fractions, mirrored: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """Cut windows, at the positions `down` and `right`, from (B, H, W, 3) images that are padded with black."""
    count, height, width, _ = pixels.shape
    padded = np.zeros((count, height + 2 * PADDING, width + 2 * PADDING, 3), np.uint8)
    padded[:, PADDING:-PADDING, PADDING:-PADDING] = pixels
    tops = (down * (2 * PADDING + 1)).astype(int).tolist()
    lefts = (right * (2 * PADDING + 1)).astype(int).tolist()
    out = np.empty_like(pixels)
    for i, (top, left, mirror) in enumerate(zip(tops, lefts, mirrored.tolist(), strict=True)):
        window = padded[i, top : top + height, left : left + width]
        out[i] = window[:, ::-1] if mirror else window
    return out


def to_float(pixels: npt.NDArray[np.uint8], *, channels_last: bool = False) -> npt.NDArray[np.float32]:
    """Convert (B, H, W, 3) in 0 to 255 to (B, 3, H, W) in [0, 1], which lies in memory as `channels_last` says."""
    if channels_last:
        return (pixels.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)


def resized(images: npt.NDArray[np.float32], side: int | None) -> npt.NDArray[np.float32]:
    """Scale (B, 3, H, W) to (B, 3, side, side): by averages of areas to shrink, bilinearly to grow."""
    if side is None or images.shape[2:] == (side, side):
        return images
    if images.shape[2] == images.shape[3] and images.shape[2] % side == 0:
        step = images.shape[2] // side  # step × step pixels become one
        parts = [images[:, :, i::step, j::step] for i in range(step) for j in range(step)]
        return functools.reduce(np.add, parts) / np.float32(step**2)
    import torch
    import torch.nn.functional as F

    mode: Literal["area", "bilinear"] = "area" if side < images.shape[2] else "bilinear"
    align_corners = None if mode == "area" else False
    scaled = F.interpolate(torch.from_numpy(images), (side, side), mode=mode, align_corners=align_corners)
    out: npt.NDArray[np.float32] = scaled.numpy()
    return out


def add_noise(image: npt.NDArray[np.float32], std: float, rng: np.random.Generator) -> None:
    """Add Gaussian noise to a (3, H, W) image in [0, 1] in place, and clip it to this range."""
    image += rng.standard_normal(image.shape, np.float32) * np.float32(std)
    np.clip(image, 0, 1, out=image)


def normalise(images: npt.NDArray[np.float32], norm: Normalisation) -> None:
    """Normalise (B, 3, H, W) images in [0, 1] in place."""
    mean, std = np.array(norm.mean, np.float32), np.array(norm.std, np.float32)
    by_channel = images.transpose(0, 2, 3, 1)  # (B, H, W, 3)
    if by_channel.flags.c_contiguous:
        # Whole rows are faster than three numbers at a time.
        rows = by_channel.reshape(len(images), -1, 3 * images.shape[3])
        rows -= np.tile(mean, images.shape[3])
        rows /= np.tile(std, images.shape[3])
    else:
        images -= mean[:, None, None]
        images /= std[:, None, None]


def blank_squares(images: npt.NDArray[np.float32], down: Fractions, right: Fractions, length: int) -> None:
    """Set a square around one pixel of each (B, 3, H, W) image to zero in place. Squares end at the borders."""
    height, width = images.shape[2:]
    half = length // 2
    rows, columns = (down * height).astype(int).tolist(), (right * width).astype(int).tolist()
    for image, row, column in zip(images, rows, columns, strict=True):
        image[:, max(row - half, 0) : row + half, max(column - half, 0) : column + half] = 0
