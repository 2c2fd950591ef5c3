"""Images with instance masks in the layout of Penn-Fudan, for torchvision's detectors.

PNGImages/NAME.png beside PedMasks/NAME_mask.png, whose pixels are 0 for the ground and 1, 2, ... for each person
(https://www.cis.upenn.edu/~jshi/ped_html/). Facts of the protocol from facebookresearch/ppuda,
experiments/sgd/detector, which follows torchvision's tutorial on detection.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes

from onnx_ghn.errors import DataError
from onnx_ghn.images.files import quiet_decoding, read_image

__all__ = ["Pedestrians", "Sample", "find_pedestrians"]

Sample = tuple[Tensor, dict[str, Tensor]]
_SUFFIX = "_mask"


@dataclasses.dataclass(frozen=True, eq=False)
class Pedestrians:
    """Image files and their masks, decoded when they are asked for. There is one class: a person, 1."""

    images: tuple[Path, ...]
    masks: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: list[int]) -> Pedestrians:
        """The images at `indices`, in that order."""
        return Pedestrians(tuple(self.images[i] for i in indices), tuple(self.masks[i] for i in indices))

    def sample(self, index: int, *, mirror: bool = False) -> Sample:
        """An image (3, H, W) in [0, 1], and its boxes (N, 4) as left, top, right, bottom, labels (N,), masks (N, H, W).

        Raises:
            DataError: a file that cannot be decoded, or a mask of another size.
        """
        image = torch.from_numpy(_pixels(self.images[index], "RGB")).permute(2, 0, 1).float() / 255
        ids = torch.from_numpy(_pixels(self.masks[index], None).astype(np.int64))  # (H, W)
        if ids.shape != image.shape[1:]:
            sizes = f"{tuple(ids.shape)}, its image {tuple(image.shape[1:])}"
            raise DataError(f"{self.masks[index]}: the mask is {sizes}; they must agree")
        present = torch.unique(ids)
        present = present[present != 0]
        masks = ids == present[:, None, None]  # (H, W) x (N, 1, 1) -> (N, H, W)
        boxes = masks_to_boxes(masks) if len(masks) else torch.zeros(0, 4)
        # A person of one pixel's width has no box that a detector can learn.
        valid = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        boxes, masks = boxes[valid].float(), masks[valid].to(torch.uint8)
        if mirror:
            image, masks = image.flip(2), masks.flip(2)
            right = image.shape[2] - boxes[:, [2, 0]]
            boxes = torch.stack([right[:, 0], boxes[:, 1], right[:, 1], boxes[:, 3]], dim=1)
        return image, {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64), "masks": masks}


def find_pedestrians(folder: Path, n_test: int, seed: int) -> tuple[Pedestrians, Pedestrians]:
    """Training and test images: the last `n_test` of a random order are for testing (published: 50 of 170).

    Raises:
        DataError: no such folders, an image without a mask, or too few images.
    """
    homes = [folder / "PNGImages", folder / "PedMasks"]
    for home in homes:
        if not home.is_dir():
            raise DataError(f"{home}: no such folder; Penn-Fudan's archive has PNGImages/ and PedMasks/")
    images = sorted(path for path in homes[0].iterdir() if path.suffix.lower() == ".png")
    masks = [homes[1] / f"{path.stem}{_SUFFIX}.png" for path in images]
    for image, mask in zip(images, masks, strict=True):
        if not mask.is_file():
            raise DataError(f"{image}: has no mask {mask.name} in {homes[1]}; add it, or take the image out")
    if not 0 < n_test < len(images):
        raise DataError(f"{folder}: {len(images)} images, {n_test} of them for testing; leave some for training")
    order = np.random.default_rng(seed).permutation(len(images)).tolist()
    everything = Pedestrians(tuple(images), tuple(masks))
    return everything.subset(order[:-n_test]), everything.subset(order[-n_test:])


def _pixels(path: Path, mode: str | None) -> np.ndarray:
    try:
        with quiet_decoding():
            pixels = np.array(read_image(path, mode))
    except DataError as error:
        raise DataError(f"{path}: cannot be decoded: {error}") from error
    if mode is None and pixels.ndim != 2:
        raise DataError(
            f"{path}: a mask has one number a pixel, this has {pixels.shape[2]}; write it as grey or palette"
        )
    return pixels
