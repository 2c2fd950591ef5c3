"""Where the images of a data set lie: folders or zip archives of class folders, with or without splits."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import DataError
from onnx_ghn.images.files import IMAGE_SUFFIXES, ImageSource, open_source, walk_folder

__all__ = ["Part", "Tree", "find_parts"]

#: A name of a part, and what it is called on disk.
_SPELLINGS = {"train": "train", "test": "test", "val": "val", "validation": "val"}


@dataclasses.dataclass(frozen=True, eq=False)
class Tree:
    """Image files and their labels, sorted by class and name."""

    source: ImageSource
    names: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a data set on disk."""

    path: Path  # a folder or a zip archive
    inside: str = ""  # the folder of the archive that it is
    archive_of: str = ""  # the part that the whole archive should be: opened only when its images are asked for

    @property
    def where(self) -> str:
        return str(self.path / self.inside)

    def fingerprint(self) -> str:
        """Changes whenever a file's name, size or time does."""
        digest = hashlib.sha256()
        try:
            if not self.path.is_dir():
                found = self.path.stat()
                return f"{self.path.name} {found.st_size} {found.st_mtime_ns}"
            entries = []
            for name, entry in walk_folder(self.path):
                if entry.is_file():
                    found = entry.stat()
                    entries.append(f"{name} {found.st_size} {found.st_mtime_ns}\n")
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({(error.strerror or str(error)).lower()})") from error
        for line in sorted(entries):
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def class_names(self) -> tuple[str, ...]:
        """The classes, without listing their images where that is to be had."""
        if self.path.is_dir():
            return tuple(sorted(name for name, entry in walk_folder(self.path, depth=1) if entry.is_dir()))
        return self.tree().classes

    def tree(self) -> Tree:
        """The class folders and their images.

        Raises:
            DataError: fewer than two classes, or a class without images.
        """
        source = open_source(self.path)
        inside = self.inside
        if self.archive_of:
            within = _inside(source)
            only = within.get(self.archive_of) or within.get("all")
            if only is None:
                held = ", ".join(f"{part.inside}/" for part in within.values())
                raise DataError(f"{self.path}: holds {held}, not {self.archive_of}/<class>/*; is it another part's?")
            inside = only.inside
        prefix = f"{inside}/" if inside else ""
        by_class: dict[str, list[str]] = {} if prefix else {folder: [] for folder in source.folders}
        for name in source.names:
            if name.startswith(prefix):
                folder, slash, _ = name[len(prefix) :].partition("/")
                if slash:
                    by_class.setdefault(folder, []).append(name)
        if not by_class:
            raise DataError(f"{self.where}: no class folders with images in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
        for folder, names in sorted(by_class.items()):
            if not names:
                raise DataError(
                    f"{self.where}: class folder {folder!r} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}); "
                    "fill it or take it out"
                )
        classes = tuple(sorted(by_class))
        if len(classes) < 2:
            raise DataError(f"{self.where}: one class folder only ({classes[0]!r}); a classifier needs two at least")
        counts = [len(by_class[name]) for name in classes]
        every = np.array([name for folder in classes for name in by_class[folder]])
        return Tree(source, every, np.repeat(np.arange(len(classes)), counts), classes)


def find_parts(path: Path) -> dict[str, Part]:
    """The parts of a data set by name: train, test, val; or "all" where class folders come undivided.

    Args:
        path: a folder with train/, test/, val/ or train.zip, test.zip, val.zip, a zip archive with such folders, or a
            folder or zip archive of class folders.

    Raises:
        DataError: nothing there can be read as a data set.
    """
    if not path.is_dir():
        return _inside(open_source(path))
    found = {}
    for spelling, part in _SPELLINGS.items():
        if (path / spelling).is_dir():
            found[part] = Part(path / spelling)
        elif (archive := path / f"{spelling}.zip").is_file():
            found[part] = Part(archive, archive_of=part)
    return found or {"all": Part(path)}


def _inside(source: ImageSource) -> dict[str, Part]:
    """The parts inside one archive. A folder around everything is passed through."""
    names, archive = source.names, source.path
    if not names:
        raise DataError(f"{archive}: no images in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
    prefix = ""
    while (tops := _tops(names, prefix)) is not None and len(tops) == 1:
        (only,) = tops
        if only in _SPELLINGS or _tops(names, f"{prefix}{only}/") is None:
            break  # a part, or a class
        prefix += f"{only}/"
    if tops and tops <= _SPELLINGS.keys():
        return {_SPELLINGS[top]: Part(archive, prefix + top) for top in sorted(tops)}
    return {"all": Part(archive, prefix.rstrip("/"))}


def _tops(names: Iterable[str], prefix: str) -> set[str] | None:
    """The folders right below `prefix`; none where an image lies there itself."""
    tops = set()
    for name in names:
        top, slash, _ = name[len(prefix) :].partition("/")
        if not slash:
            return None
        tops.add(top)
    return tops
