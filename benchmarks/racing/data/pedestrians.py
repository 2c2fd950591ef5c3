"""Penn-Fudan: photographs of streets, and which pixels are pedestrians."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from racing.data.files import archive
from racing.parts import Splits, splits_of

__all__ = ["penn_fudan"]


def penn_fudan(root: Path, size: int) -> Splits:
    """All 170 photographs squeezed to squares: bytes (N, 3, size, size), masks of 0 and 1 (N, 1, size, size)."""
    pictures, masks = [], []
    with archive(root / "penn-fudan" / "pennfudan-ped.zip") as file:
        for name in sorted(
            name for name in file.namelist() if name.startswith("JPEGImages/") and name.endswith(".jpg")
        ):
            mask_name = name.replace("JPEGImages/", "PedMasks/").removesuffix(".jpg") + "_mask.png"
            picture = Image.open(io.BytesIO(file.read(name))).convert("RGB").resize((size, size))
            numbers = np.asarray(Image.open(io.BytesIO(file.read(mask_name))))  # (H, W): 0, or the pedestrian's number
            mask = Image.fromarray(255 * (numbers > 0).astype(np.uint8))
            scaled = mask.resize((size, size), Image.Resampling.BOX)
            pictures.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
            masks.append(torch.from_numpy((np.array(scaled) > 127).astype(np.float32))[None])
    return splits_of(torch.stack(pictures), torch.stack(masks), 35, 45, by_class=False)
