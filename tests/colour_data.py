"""A data set that is learnt in a few steps: images of one colour a class, with noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = {"blue": (30, 40, 200), "green": (40, 190, 50), "red": (210, 30, 40)}


def draw_colours(folder: Path, per_class: dict[str, int], side: int = 32, seed: int = 0) -> Path:
    """<folder>/<part>/<class>/NNNN.png for each part; the folder."""
    rng = np.random.default_rng(seed)
    for part, count in per_class.items():
        for name, colour in CLASSES.items():
            home = folder / part / name
            home.mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(np.array(colour) + rng.normal(0, 40, (side, side, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(home / f"{i:04}.png")
    return folder
