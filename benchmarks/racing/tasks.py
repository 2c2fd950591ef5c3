"""The tasks: data in three parts, how a batch is prepared, what is trained for.

CIFAR-10, which the shipped GHN was trained on, is in none of them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from racing.augmentation import crops_and_flips
from racing.data import pedestrians, pictures, series, sounds, tables, texts
from racing.objectives import BOXES, CLASSES, NEXT, NUMBERS, PICTURES, REGIONS, Objective
from racing.parts import Splits

__all__ = ["TASKS", "Task", "splits"]

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


@dataclasses.dataclass(frozen=True)
class Task:
    """What networks are trained and judged on.

    Attributes:
        shape: of one input.
        outputs: classes, tokens, channels or numbers that a network has to give.
        load: from the folder of data sets to the three parts. Raises DataAbsentError.
        prepare: makes a batch as it is stored a network's input.
        augment: changes a stored batch of training, or is None.
        tokens: how many different numbers inputs hold, where they are word or character numbers.
    """

    name: str
    shape: tuple[int, ...]
    outputs: int
    load: Callable[[Path], Splits]
    objective: Objective = CLASSES
    batch_size: int = 64
    prepare: Callable[[Tensor], Tensor] = torch.Tensor.contiguous
    prepare_target: Callable[[Tensor], Tensor] = torch.Tensor.contiguous
    augment: Augmentation | None = None
    tokens: int = 0

    def example(self) -> Tensor:
        """An input for an export, (1, *shape)."""
        return torch.zeros(1, *self.shape, dtype=torch.long) if self.tokens else torch.zeros(1, *self.shape)


def photograph(batch: Tensor) -> Tensor:
    """Bytes (B, 3, H, W) by ImageNet's mean and deviation."""
    mean = torch.tensor([0.485, 0.456, 0.406], device=batch.device)[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225], device=batch.device)[:, None, None]
    return (batch / 255 - mean) / std


def drawing(batch: Tensor) -> Tensor:
    """Bytes (B, 1, H, W) by Fashion-MNIST's mean and deviation."""
    return (batch / 255 - 0.286) / 0.353


def _photographs(name: str, size: int, n_classes: int, batch_size: int, load: Callable[[Path], Splits]) -> Task:
    shape = (3, size, size)
    return Task(name, shape, n_classes, load, CLASSES, batch_size, photograph, augment=crops_and_flips)


def _all() -> dict[str, Task]:
    listed = [
        *(
            _photographs(f"imagenette-{size}", size, 10, batch_size, functools.partial(pictures.imagenette, size=size))
            for size, batch_size in ((32, 32), (64, 64), (128, 64))
        ),
        *(
            _photographs(
                f"tiny-imagenet-{n_classes}", 32, n_classes, batch_size,
                functools.partial(pictures.tiny_imagenet, n_classes=n_classes, n_train=n_train),
            )
            for n_classes, n_train, batch_size in ((20, 200, 32), (200, 450, 128))
        ),
        Task(
            "fashion", (1, 32, 32), 10,
            functools.partial(pictures.fashion_mnist, n_train=20_000, n_choose=1000, n_judge=2000), batch_size=32,
            prepare=drawing,
        ),
        Task(
            "fashion-pictures", (1, 32, 32), 1,
            functools.partial(pictures.fashion_reconstruction, n_train=20_000, n_choose=500, n_judge=1000), PICTURES,
            batch_size=32, prepare=drawing, prepare_target=drawing,
        ),
        *(
            Task(
                f"penn-fudan-{size}", (3, size, size), 1, functools.partial(pedestrians.penn_fudan, size=size), REGIONS,
                batch_size=10, prepare=photograph,
            )
            for size in (64, 192)
        ),
        Task(
            "penn-fudan-boxes", (3, 192, 192), 5, functools.partial(pedestrians.penn_fudan_boxes, size=192, cells=12),
            BOXES, batch_size=10, prepare=photograph,
        ),
        Task("trec", (20,), 6, functools.partial(texts.trec, vocabulary=2000, length=20), batch_size=32, tokens=2000),
        Task(
            "ag-news", (40,), 4, functools.partial(texts.ag_news, vocabulary=5000, length=40), batch_size=32,
            tokens=5000,
        ),
        Task("imdb", (200,), 2, functools.partial(texts.imdb, vocabulary=10_000, length=200), tokens=10_000),
        *(
            Task(
                f"shakespeare-{length}", (length,), texts.CHARACTERS,
                functools.partial(texts.shakespeare, length=length, n_choose=n, n_judge=2 * n), NEXT,
                batch_size=batch_size, tokens=texts.CHARACTERS,
            )
            for length, batch_size, n in ((64, 16, 200), (256, 32, 200))
        ),
        Task(
            "reviews-64", (64,), texts.CHARACTERS,
            functools.partial(texts.reviews, length=64, n_choose=200, n_judge=400), NEXT, batch_size=16,
            tokens=texts.CHARACTERS,
        ),
        Task("spoken-digits", (1, 6400), 10, sounds.spoken_digits, batch_size=32),
        Task("spoken-spectra", (1, 64, 64), 10, sounds.spoken_spectra, batch_size=32),
        *(
            Task(name, shape, n_classes, functools.partial(series.ucr, name=name), batch_size=16)
            for name, shape, n_classes in (
                ("OSULeaf", (1, 427), 6),
                ("ArrowHead", (1, 251), 3),
                ("GunPoint", (1, 150), 2),
                ("ItalyPowerDemand", (1, 24), 2),
                ("ACSF1", (1, 1460), 10),
                ("BasicMotions", (6, 100), 4),
                ("JapaneseVowels_eq", (12, 25), 9),
            )
        ),
        *(
            Task(f"table: {name}", (columns,), outputs, functools.partial(tables.table, name=name), objective, 32)
            for name, columns, outputs, objective in (
                ("digits", 64, 10, CLASSES),
                ("wine", 13, 3, CLASSES),
                ("breast cancer", 30, 2, CLASSES),
                ("diabetes", 10, 1, NUMBERS),
            )
        ),
    ]  # fmt: skip
    return {task.name: task for task in listed}


TASKS = _all()


@functools.lru_cache(maxsize=2)
def splits(name: str, root: Path) -> Splits:
    """The data of a task. Raises DataAbsentError."""
    return TASKS[name].load(root)
