"""What is done to the pixels of a batch. In numpy: PyTorch's threads cost more than they save on tensors this small."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.vision.sets import Normalisation

__all__ = ["PADDING", "add_noise", "blank_squares", "normalise", "resized", "to_float", "windows"]

PADDING = 4  # pixels around an image, of which a window of the image's size is cut

Array = npt.NDArray[Any]


def windows(pixels: npt.NDArray[np.uint8], down: Array, right: Array, mirrored: Array) -> npt.NDArray[np.uint8]:
    """(B, H, W, 3): windows of the images padded with black. `down` and `right` say where, in [0, 1)."""
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
    """(B, H, W, 3) of 0 to 255 -> (B, 3, H, W) in [0, 1], in memory as asked."""
    if channels_last:
        return (pixels.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)


def resized(images: npt.NDArray[np.float32], side: int | None) -> npt.NDArray[np.float32]:
    """(B, 3, H, W) -> (B, 3, side, side): averages of areas where the images shrink, else bilinear."""
    if side is None or images.shape[2:] == (side, side):
        return images
    if images.shape[2] == images.shape[3] and images.shape[2] % side == 0:
        every = images.shape[2] // side  # pixels of a side that become one
        parts = [images[:, :, i::every, j::every] for i in range(every) for j in range(every)]
        return functools.reduce(np.add, parts) / np.float32(every**2)
    import torch
    import torch.nn.functional as F

    shrinks = side < images.shape[2]
    options: dict[str, Any] = {"mode": "area"} if shrinks else {"mode": "bilinear", "align_corners": False}
    out: npt.NDArray[np.float32] = F.interpolate(torch.from_numpy(images), (side, side), **options).numpy()
    return out


def add_noise(image: npt.NDArray[np.float32], std: float, rng: np.random.Generator) -> None:
    """In place, on (3, H, W) in [0, 1]: Gaussian noise, then cut off at 0 and 1."""
    image += rng.standard_normal(image.shape, np.float32) * np.float32(std)
    np.clip(image, 0, 1, out=image)


def normalise(images: npt.NDArray[np.float32], norm: Normalisation) -> None:
    """In place, on (B, 3, H, W) in [0, 1]."""
    mean, std = np.array(norm.mean, np.float32), np.array(norm.std, np.float32)
    by_channel = images.transpose(0, 2, 3, 1)  # (B, H, W, 3)
    if by_channel.flags.c_contiguous:
        rows = by_channel.reshape(len(images), -1, 3 * images.shape[3])  # whole rows at once, not three numbers
        rows -= np.tile(mean, images.shape[3])
        rows /= np.tile(std, images.shape[3])
    else:
        images -= mean[:, None, None]
        images /= std[:, None, None]


def blank_squares(images: npt.NDArray[np.float32], down: Array, right: Array, length: int) -> None:
    """In place, on (B, 3, H, W): zeros in a square around a pixel of each, cut off at the borders."""
    height, width = images.shape[2:]
    half = length // 2
    rows, columns = (down * height).astype(int).tolist(), (right * width).astype(int).tolist()
    for image, row, column in zip(images, rows, columns, strict=True):
        image[:, max(row - half, 0) : row + half, max(column - half, 0) : column + half] = 0
