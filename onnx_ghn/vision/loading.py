"""Loading of data sets by name or path."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

import numpy as np

from onnx_ghn.errors import DataError, OptionError
from onnx_ghn.vision.cache import DecodedCache, default_cache_dir
from onnx_ghn.vision.dataset_folders import Part, find_parts
from onnx_ghn.vision.decoding import SMALL, Progress, common_small_size, decode_all
from onnx_ghn.vision.original import ORIGINALS, find_original, original_files, read_original
from onnx_ghn.vision.sets import ImageFiles, ImageSet
from onnx_ghn.vision.splits import last_of_all, last_of_each_class, random_parts

__all__ = ["Split", "fetch_dataset", "load_dataset"]

Split = Literal["train", "val", "trainval", "test"]

_SPLITS = ("train", "val", "trainval", "test")
_MAX_SIZE = 4096


def load_dataset(
    dataset: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] = "./data",
    split: Split = "train",
    *,
    image_size: int | None = None,
    download: bool = False,
    seed: int = 1111,
    cache_dir: str | os.PathLike[str] | Literal[False] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ImageSet | ImageFiles:
    """Load the images of one split: in memory where they are small (sides up to 64), otherwise as files.

    Args:
        dataset: cifar10, cifar100, imagenet, or a folder or zip archive. It holds class folders, or train/, test/ and
            val/ (or train.zip, …) with class folders. Labels follow the sorted names of the class folders.
        data_dir: the folder that holds named data sets, in a folder of their name or directly. CIFAR may be
            torchvision's files or class folders.
        split: `train` and `val` are the published division of the training images, and `trainval` is all of them.
            `test` is never part of them; for ImageNet it is the val/ folder. Undivided class folders are divided
            8 : 1 : 1.
        image_size: the side of the squares to decode to. Up to 64, images are scaled and held in memory; larger ones
            are cropped from files batch by batch. By default small images keep their size, and others become 224.
        download: fetch CIFAR into `data_dir` if it is not there.
        seed: the seed of the division of undivided class folders.
        cache_dir: the cache of decoded small images; by default `default_cache_dir()`, False for none.
        threads: the number of threads that decode.
        progress: called with the number of decoded images and the number of all images.

    Raises:
        DataError: the data set is absent or damaged, or its folders are not those of a data set.
        OptionError: an option has no meaning.
    """
    if split not in _SPLITS:
        raise OptionError(f"no split {split!r}: `split` is one of {', '.join(_SPLITS)}")
    if image_size is not None and not 1 <= image_size <= _MAX_SIZE:
        raise OptionError(f"image size {image_size}: `image_size` is 1 to {_MAX_SIZE}")
    cache = DecodedCache(None if cache_dir is False else Path(cache_dir or default_cache_dir()))
    name = str(dataset)
    known = name.lower() if name.lower() in (*ORIGINALS, "imagenet") else None
    if download and known not in ORIGINALS:
        raise OptionError(f"{name}: only {' and '.join(ORIGINALS)} can be downloaded")
    if known in ORIGINALS:
        folders = [Path(data_dir) / known, Path(data_dir)]
        home = find_original(known, folders)
        if home is not None or (download and not _has_parts(folders[0])):
            if image_size not in (None, 32):
                raise OptionError(f"{known} has images of 32 × 32: scale its batches instead (`resize_to`)")
            return _original(known, home or folders[0], split, download, cache)
    path = _home(known, Path(data_dir)) if known else Path(dataset)
    loader = _Loader(known or path.stem, path, known == "imagenet", image_size, cache, threads, progress)
    return loader.load(split, seed)


def fetch_dataset(dataset: str | os.PathLike[str], data_dir: str | os.PathLike[str] = "./data") -> None:
    """Fetch CIFAR where it is absent or damaged, before a long work, or several processes, read it without `download`.

    Args:
        dataset: cifar10 or cifar100.
        data_dir: the folder of named data sets.

    Raises:
        OptionError: it is another data set.
        DataError: the download fails.
    """
    load_dataset(dataset, data_dir, "trainval", download=True)


def _original(known: str, folder: Path, split: Split, download: bool, cache: DecodedCache) -> ImageSet:
    part = "test" if split == "test" else "train"
    key = f"{folder.resolve()}|{known}|{part}"
    fingerprint = _fingerprint(original_files(known, folder))
    images = cache.load(key, fingerprint, known) if fingerprint else None
    if images is None:
        images = read_original(known, folder, train=part == "train", download=download)
        cache.store(key, _fingerprint(original_files(known, folder)), images)
    if split in ("train", "val"):
        return images.subset(last_of_all(len(images))[split == "val"])
    return images


def _fingerprint(paths: list[Path]) -> str:
    stats = [(path, path.stat()) for path in paths]
    return " ".join(f"{path.name} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)


def _has_parts(folder: Path) -> bool:
    return folder.is_dir() and "all" not in find_parts(folder)


def _home(known: str, data_dir: Path) -> Path:
    """The path of a named data set that is laid out in class folders."""
    for path in (data_dir / known, data_dir / f"{known}.zip", data_dir):
        if path.is_file() or _has_parts(path):
            return path
    remedy = (
        "train/<class>/* and val/<wnid>/*"
        if known == "imagenet"
        else "train/<class>/* and test/<class>/*, or set `download`"
    )
    raise DataError(f"{data_dir}: no {known} in it; put it in {data_dir / known} as {remedy}")


@dataclasses.dataclass(frozen=True)
class _Loader:
    """Reads parts of one data set that is laid out in class folders."""

    name: str
    path: Path
    imagenet: bool
    image_size: int | None
    cache: DecodedCache
    threads: int | None
    progress: Progress | None

    def load(self, split: Split, seed: int) -> ImageSet | ImageFiles:
        parts = find_parts(self.path)
        if list(parts) == ["train"]:
            parts = {"all": parts["train"]}
        where = str(self.path)
        if "all" in parts:
            images = self._part(parts["all"], None)
            train, val, test = random_parts(images.labels, images.classes, where, seed)
            indices = {"train": train, "val": val, "test": test, "trainval": np.sort(np.concatenate([train, val]))}
            return images.subset(indices[split])
        # Where there are test/ and val/, val/ is for validation. Where there is only one of them, it is the test set.
        own_val = "val" in parts and "test" in parts
        if split == "test":
            return self._part(parts.get("test") or parts["val"], parts.get("train"))
        if "train" not in parts:
            raise DataError(f"{where}: no train/ or train.zip in it, only {', '.join(parts)}")
        if own_val and split == "val":
            return self._part(parts["val"], parts["train"])
        images = self._part(parts["train"], None)
        if split == "trainval" or own_val:
            return images
        train, val = last_of_each_class(images.labels, images.classes, where, imagenet=self.imagenet)
        return images.subset(val if split == "val" else train)

    def _part(self, part: Part, training: Part | None) -> ImageSet | ImageFiles:
        """Load all images of a part, whose classes must be those of `training`."""
        size = self.image_size
        key = f"{part.path.resolve()}|{part.inside}|{part.archive_of}|{size}"
        small_asked = size is None or size <= SMALL
        if small_asked and self.cache.holds(key):
            entry = self.cache.load(key, self._fingerprint(part, training), self.name)
            if entry is not None:
                return entry
        files = part.files()
        if training is not None:
            _check_classes(files.classes, training, part.where)
        native = common_small_size(files.source, files.names) if size is None else None
        target = native if size is None else (size, size) if small_asked else None
        if target is None:
            return dataclasses.replace(files, name=self.name, image_size=size or files.image_size)
        fingerprint = self._fingerprint(part, training)  # taken before the files are read, to notice a later change
        pixels = decode_all(
            files.source, files.names, target, resize=size is not None, threads=self.threads, progress=self.progress
        )
        images = ImageSet(pixels, files.labels, files.classes, self.name)
        self.cache.store(key, fingerprint, images)
        return images

    def _fingerprint(self, part: Part, training: Part | None) -> str:
        # It includes the classes of the training part, against which this part was checked.
        if training is None:
            return part.fingerprint()
        beside = "/".join(training.class_names()) if training.path.is_dir() else training.fingerprint()
        return f"{part.fingerprint()} beside {beside}"


def _check_classes(classes: tuple[str, ...], training: Part, where: str) -> None:
    expected = training.class_names()
    for place, absent in ((where, set(expected) - set(classes)), (training.where, set(classes) - set(expected))):
        if absent:
            names = ", ".join(sorted(absent)[:3]) + (", ..." if len(absent) > 3 else "")
            other = training.where if place == where else where
            raise DataError(f"{place}: no class {names}, which {other} has; their labels would not agree")
