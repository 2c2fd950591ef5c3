"""Draw a small detection data set in the layout of Penn-Fudan: figures on a noisy ground, and their masks.

    python training/draw_pedestrians.py FOLDER -n 60

FOLDER/PNGImages/Drawn00001.png has one to three figures; FOLDER/PedMasks/Drawn00001_mask.png has 0 for the ground and
1, 2, ... for each. Anyone can draw the same set, so that figures measured on it can be measured again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from onnx_ghn.errors import DataError

__all__ = ["draw_pedestrians"]

_MAX_FIGURES = 3
_LEAST_SEEN = 0.5  # of a figure's pixels: one that others hide more is drawn elsewhere


def draw_pedestrians(folder: Path, n_images: int, *, side: int = 96, seed: int = 0) -> Path:
    """Make a new folder with PNGImages/ and PedMasks/; the folder.

    Args:
        side: of the square images, in pixels.

    Raises:
        DataError: the folder is there already, or cannot be made.
    """
    try:
        (folder / "PNGImages").mkdir(parents=True)
        (folder / "PedMasks").mkdir()
        for number in range(1, n_images + 1):
            image, mask = _scene(np.random.default_rng((seed, number)), side)
            Image.fromarray(image).save(folder / "PNGImages" / f"Drawn{number:05}.png")
            Image.fromarray(mask).save(folder / "PedMasks" / f"Drawn{number:05}_mask.png")
    except OSError as error:
        raise DataError(f"{folder}: cannot be drawn into ({error.strerror}); choose a new folder") from error
    return folder


def _scene(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """(side, side, 3) uint8 pixels and the (side, side) uint8 mask."""
    # Patches of one colour, so that nothing but the figure's form tells it from the ground.
    patches = rng.integers(60, 196, (side // 8 + 1, side // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:side, :side]
    pixels = patches.astype(np.float64)
    mask = np.zeros((side, side), np.uint8)
    wanted = int(rng.integers(1, _MAX_FIGURES + 1))
    while (n_figures := int(mask.max())) < wanted:
        figure = _figure(rng, side)
        after = np.where(figure, n_figures + 1, mask).astype(np.uint8)
        if any((after == i).sum() < _LEAST_SEEN * (mask == i).sum() for i in range(1, n_figures + 1)):
            continue
        mask = after
        pixels[figure] = rng.integers(0, 256, 3)
    pixels += rng.normal(0, 12, pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8), mask


def _figure(rng: np.random.Generator, side: int) -> np.ndarray:
    """(side, side) bool: a head, a body and two legs, all of it inside the image."""
    height = rng.uniform(0.3, 0.7) * side
    width = height * rng.uniform(0.3, 0.45)
    left, top = rng.uniform(0, side - width - 1), rng.uniform(0, side - height - 1)
    canvas = Image.new("1", (side, side))
    pen = ImageDraw.Draw(canvas)
    head = 0.24 * height
    middle = left + width / 2
    pen.ellipse((middle - head / 2, top, middle + head / 2, top + head), fill=1)
    pen.rectangle((left, top + head, left + width, top + 0.62 * height), fill=1)
    pen.rectangle((left + 0.08 * width, top + 0.62 * height, left + 0.4 * width, top + height), fill=1)
    pen.rectangle((left + 0.6 * width, top + 0.62 * height, left + 0.92 * width, top + height), fill=1)
    return np.asarray(canvas)
