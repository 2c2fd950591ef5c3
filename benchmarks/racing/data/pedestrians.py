"""Penn-Fudan: photographs of streets, and which pixels are pedestrians, or which boxes they fill."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from racing.boxes import encoded
from racing.data.files import archive
from racing.parts import Splits, splits_of

__all__ = ["penn_fudan", "penn_fudan_boxes"]


def penn_fudan(root: Path, size: int) -> Splits:
    """All 170 photographs squeezed to squares: bytes (N, 3, size, size), masks of 0 and 1 (N, 1, size, size)."""
    pictures, masks = [], []
    for picture, numbers in _photographs(root, size):
        mask = Image.fromarray(255 * (numbers > 0).astype(np.uint8)).resize((size, size), Image.Resampling.BOX)
        pictures.append(picture)
        masks.append(torch.from_numpy((np.array(mask) > 127).astype(np.float32))[None])
    return _dealt(pictures, masks)


def penn_fudan_boxes(root: Path, size: int, cells: int) -> Splits:
    """The same photographs with the pedestrians' boxes as grids, see `racing.boxes`: (N, 5, cells, cells)."""
    pictures, grids = [], []
    for picture, numbers in _photographs(root, size):
        height, width = numbers.shape
        boxes = []
        for number in range(1, int(numbers.max()) + 1):
            rows, columns = np.nonzero(numbers == number)
            edges = columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height
            boxes.append([float(edge) for edge in edges])
        pictures.append(picture)
        grids.append(encoded(torch.tensor(boxes).reshape(-1, 4), cells))
    return _dealt(pictures, grids)


def _photographs(root: Path, size: int) -> Iterator[tuple[Tensor, npt.NDArray[np.uint8]]]:
    """Bytes (3, size, size), and the mask in full size: 0, or a pedestrian's number."""
    with archive(root / "penn-fudan" / "pennfudan-ped.zip") as file:
        for name in sorted(name for name in file.namelist() if name.startswith("JPEGImages/") and name[-1] != "/"):
            mask_name = name.replace("JPEGImages/", "PedMasks/").removesuffix(".jpg") + "_mask.png"
            picture = Image.open(io.BytesIO(file.read(name))).convert("RGB").resize((size, size))
            numbers = np.asarray(Image.open(io.BytesIO(file.read(mask_name))))
            yield torch.from_numpy(np.array(picture)).permute(2, 0, 1), numbers


def _dealt(pictures: list[Tensor], targets: list[Tensor]) -> Splits:
    return splits_of(torch.stack(pictures), torch.stack(targets), 35, 45, by_class=False)
