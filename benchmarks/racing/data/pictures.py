"""Pictures with labels: Imagenette, Tiny-ImageNet at 32 × 32, Fashion-MNIST. All as bytes, (N, C, H, W)."""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from racing.data.files import archive, existing
from racing.parts import Part, Splits, split

__all__ = ["fashion_mnist", "fashion_reconstruction", "imagenette", "tiny_imagenet"]

_FASHION_FOLDERS = ("fashion-mnist", "/usr/share/datasets/fashion-mnist")  # the second is Debian's
_MOSAIC = re.compile(r"(train|val)/(n\d+)-(\d+)\.jpg")
_MOSAIC_SIDE, _MOSAIC_COLUMNS = 32, 10


def imagenette(root: Path, size: int) -> Splits:
    """Ten classes of photographs, their centres scaled to `size`; the published validation images are judged."""
    pictures: dict[str, list[Tensor]] = {"train": [], "val": []}
    labels: dict[str, list[int]] = {"train": [], "val": []}
    with archive(root / "imagenette-160" / "imagenette-160-small.zip") as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))
        classes = sorted({name.split("/")[1] for name in names})
        for name in names:
            part, wnid, _ = name.split("/")
            pictures[part].append(_centre(Image.open(io.BytesIO(file.read(name))), size))
            labels[part].append(classes.index(wnid))
    train, choose, _ = split(len(labels["train"]), 500, 0, labels["train"])
    inputs, targets = torch.stack(pictures["train"]), torch.tensor(labels["train"])
    judge = Part(torch.stack(pictures["val"]), torch.tensor(labels["val"]))
    return Splits(Part(inputs[train], targets[train]), Part(inputs[choose], targets[choose]), judge)


def tiny_imagenet(root: Path, n_classes: int, n_train: int) -> Splits:
    """The first classes of Tiny-ImageNet at 32 × 32: `n_train` images a class to train on, twice 50 held out."""
    parts: dict[str, list[tuple[Tensor, int]]] = {"train": [], "choose": [], "val": []}
    with archive(root / "tiny-imagenet-32" / "mosaics.zip") as file:
        found = [match for name in sorted(file.namelist()) if (match := _MOSAIC.fullmatch(name))]
        classes = sorted({match[2] for match in found})[:n_classes]
        for match in found:
            part, wnid, count = match.groups()
            if wnid not in classes:
                continue
            mosaic = np.asarray(Image.open(io.BytesIO(file.read(match[0]))).convert("RGB"))
            rows = len(mosaic) // _MOSAIC_SIDE
            tiles = mosaic.reshape(rows, _MOSAIC_SIDE, _MOSAIC_COLUMNS, _MOSAIC_SIDE, 3).transpose(0, 2, 4, 1, 3)
            tiles = tiles.reshape(-1, 3, _MOSAIC_SIDE, _MOSAIC_SIDE)[: int(count)]  # (count, 3, 32, 32)
            label = classes.index(wnid)
            if part == "val":
                parts["val"].append((torch.from_numpy(tiles.copy()), label))
            else:
                parts["choose"].append((torch.from_numpy(tiles[:50].copy()), label))
                parts["train"].append((torch.from_numpy(tiles[50 : 50 + n_train].copy()), label))
    return Splits(*(_joined(parts[name]) for name in ("train", "choose", "val")))


def fashion_mnist(root: Path, n_train: int, n_choose: int, n_judge: int) -> Splits:
    """Ten classes of clothes, one channel, 28 × 28 with a black margin to 32 × 32; the first test images are judged."""
    folders = [root / name for name in _FASHION_FOLDERS]  # an absolute one stays as it is
    folder = next((folder for folder in folders if folder.exists()), None)
    folder = existing(folders[0]) if folder is None else folder
    inputs, targets = _fashion_part(folder, "train")
    train, choose, _ = split(len(inputs), n_choose, 0, targets.tolist())
    train = train[:n_train]
    judge_inputs, judge_targets = _fashion_part(folder, "t10k")
    judge = Part(judge_inputs[:n_judge], judge_targets[:n_judge])
    return Splits(Part(inputs[train], targets[train]), Part(inputs[choose], targets[choose]), judge)


def fashion_reconstruction(root: Path, n_train: int, n_choose: int, n_judge: int) -> Splits:
    """The same pictures, each of which is its own target."""
    found = fashion_mnist(root, n_train, n_choose, n_judge)
    return Splits(*(Part(part.inputs, part.inputs) for part in (found.train, found.choose, found.judge)))


def _fashion_part(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    pictures = np.frombuffer(gzip.decompress(existing(folder / f"{part}-images-idx3-ubyte.gz").read_bytes()), np.uint8)
    labels = np.frombuffer(gzip.decompress(existing(folder / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8)
    square = np.pad(pictures[16:].reshape(-1, 1, 28, 28), ((0, 0), (0, 0), (2, 2), (2, 2)))  # (N, 1, 32, 32)
    return torch.from_numpy(square), torch.from_numpy(labels[8:].astype(np.int64))


def _joined(parts: list[tuple[Tensor, int]]) -> Part:
    targets = [torch.full((len(tiles),), label) for tiles, label in parts]
    return Part(torch.cat([tiles for tiles, _ in parts]), torch.cat(targets))


def _centre(picture: Image.Image, size: int) -> Tensor:
    """(3, size, size): the largest square in the middle, scaled."""
    picture = picture.convert("RGB")
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    scaled = picture.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    return torch.from_numpy(np.array(scaled)).permute(2, 0, 1).contiguous()
