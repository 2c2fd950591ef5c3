"""Data sets as folders or zip archives of class folders, with or without a division into parts."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from onnx_ghn.errors import DataError
from onnx_ghn.images.files import IMAGE_SUFFIXES, ImageSource, open_source, walk_folder
from onnx_ghn.vision.sets import ImageFiles

__all__ = ["Part", "find_parts"]

#: The names of parts on disk, and ours.
_PART_NAMES = {"train": "train", "test": "test", "val": "val", "validation": "val"}


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a data set on disk."""

    path: Path  # a folder or a zip archive
    inside: str = ""  # the folder of the archive that holds this part
    archive_of: str = ""  # the part that the whole archive should hold; it is opened only when its images are needed

    @property
    def where(self) -> str:
        return str(self.path / self.inside)

    def fingerprint(self) -> str:
        """A text that changes whenever a file's name, size or time does."""
        digest = hashlib.sha256()
        try:
            if not self.path.is_dir():
                status = self.path.stat()
                return f"{self.path.name} {status.st_size} {status.st_mtime_ns}"
            entries = []
            for name, entry in walk_folder(self.path):
                if entry.is_file():
                    status = entry.stat()
                    entries.append(f"{name} {status.st_size} {status.st_mtime_ns}\n")
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({(error.strerror or str(error)).lower()})") from error
        for line in sorted(entries):
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def class_names(self) -> tuple[str, ...]:
        """The classes. Those of a folder are read without listing their images."""
        if self.path.is_dir():
            return tuple(sorted(name for name, entry in walk_folder(self.path, depth=1) if entry.is_dir()))
        return self.files().classes

    def files(self) -> ImageFiles:
        """The images of the class folders, sorted by class and name.

        Raises:
            DataError: there are fewer than two classes, or a class has no images.
        """
        source = open_source(self.path)
        inside = self.inside
        if self.archive_of:
            parts = _parts_of_archive(source)
            own = parts.get(self.archive_of) or parts.get("all")
            if own is None:
                held = ", ".join(f"{part.inside}/" for part in parts.values())
                raise DataError(f"{self.path}: holds {held}, not {self.archive_of}/<class>/*; is it another part's?")
            inside = own.inside
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
                    "fill it or remove it"
                )
        classes = tuple(sorted(by_class))
        if len(classes) < 2:
            raise DataError(f"{self.where}: one class folder only ({classes[0]!r}); a classifier needs at least two")
        counts = [len(by_class[name]) for name in classes]
        every = np.array([name for folder in classes for name in by_class[folder]])
        return ImageFiles(source, every, np.repeat(np.arange(len(classes)), counts), classes, self.where)


def find_parts(path: Path) -> dict[str, Part]:
    """Find the parts of a data set: train, test and val, or "all" where the class folders are not divided.

    Args:
        path: a folder with train/, test/, val/ or train.zip, test.zip, val.zip, a zip archive with such folders, or a
            folder or zip archive of class folders.

    Raises:
        DataError: the path cannot be read as a data set.
    """
    if not path.is_dir():
        return _parts_of_archive(open_source(path))
    parts = {}
    for name, part in _PART_NAMES.items():
        if (path / name).is_dir():
            parts[part] = Part(path / name)
        elif (archive := path / f"{name}.zip").is_file():
            parts[part] = Part(archive, archive_of=part)
    return parts or {"all": Part(path)}


def _parts_of_archive(source: ImageSource) -> dict[str, Part]:
    """The parts inside one archive, which may have a folder around everything."""
    names, archive = source.names, source.path
    if not names:
        raise DataError(f"{archive}: no images in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
    prefix = ""
    while (tops := _tops(names, prefix)) is not None and len(tops) == 1:
        (only,) = tops
        if only in _PART_NAMES or _tops(names, f"{prefix}{only}/") is None:
            break  # a part, or a class
        prefix += f"{only}/"
    if tops and tops <= _PART_NAMES.keys():
        return {_PART_NAMES[top]: Part(archive, prefix + top) for top in sorted(tops)}
    return {"all": Part(archive, prefix.rstrip("/"))}


def _tops(names: Iterable[str], prefix: str) -> set[str] | None:
    """The folders right below `prefix`. None where an image lies there itself."""
    tops = set()
    for name in names:
        top, slash, _ = name[len(prefix) :].partition("/")
        if not slash:
            return None
        tops.add(top)
    return tops
