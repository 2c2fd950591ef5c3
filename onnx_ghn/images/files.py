"""Image files in a folder or a zip archive: they are listed, opened safely and decoded one at a time, without torch."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from onnx_ghn.errors import DataError
from onnx_ghn.limits import gib
from onnx_ghn.reading import read_regular

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "IMAGE_SUFFIXES",
    "FolderSource",
    "ImageSource",
    "ZipSource",
    "decode",
    "image_size",
    "open_image",
    "open_source",
    "quiet_decoding",
    "read_image",
    "walk_folder",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})

# The exceptions that Pillow's decoders raise on damaged files.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, struct.error)
_BAD_ZIP = (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error)
_MAX_DEPTH = 8  # levels of folders, since links may form a loop
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_MAX_IMAGE_BYTES = 1 << 28  # of one image file, in an archive when it is unpacked
_MAX_PIXELS = 1 << 26  # of one image: 8192 × 8192, which are 256 MiB with Pillow's copies
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # a zip member's signature, and the lengths of its name and extra field
_ENCRYPTED = 0x1


class ImageSource(Protocol):
    """A place that holds image files. Many threads and forked processes may read from it."""

    path: Path
    names: list[str]  # relative paths of the images, with "/", sorted
    folders: set[str]  # the outermost folders, with or without images

    def read(self, name: str) -> bytes:
        """The file's bytes."""
        ...

    def where(self, name: str) -> str:
        """The file's path, for messages."""
        ...


class FolderSource:
    """A folder and all folders below it, without hidden files and folders."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self.folders: set[str] = set()
        for name, entry in walk_folder(path):
            if entry.is_dir():
                if "/" not in name:
                    self.folders.add(name)
            elif _is_image(name) and entry.is_file():
                self.names.append(name)
        self.names.sort()

    def read(self, name: str) -> bytes:
        try:
            return read_regular(self.path / name, _MAX_IMAGE_BYTES)
        except OSError as error:
            raise DataError(f"{self.where(name)}: cannot be read ({_reason(error)})") from error

    def where(self, name: str) -> str:
        return str(self.path / name)


def _why_no_archive(path: Path, error: Exception) -> str:
    if _is_image(path.name):
        return "is a single image; name the folder that it lies in"
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return "is neither a folder nor a zip archive"
    return f"is a damaged zip archive ({error}); fetch it again"


class ZipSource:
    """A zip archive, which is read without unpacking it to disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folders: set[str] = set()
        self._members: dict[str, zipfile.ZipInfo] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({_reason(error)})") from error
        except _BAD_ZIP as error:
            raise DataError(f"{path}: {_why_no_archive(path, error)}") from error
        for entry in entries:
            parts = entry.filename.split("/")
            if any(part.startswith((".", "__MACOSX")) for part in parts):
                continue
            if len(parts) > 1:
                self.folders.add(parts[0])
            if parts[-1] and _is_image(parts[-1]):
                self._members[entry.filename] = entry
        self.names = sorted(self._members)

    def read(self, name: str) -> bytes:
        # zipfile is not used: its handles share one position, so that they lock, and do not survive a fork.
        entry = self._members[name]
        where = self.where(name)
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(
                f"{where}: encrypted, or compressed in an unusual way; unpack the archive and give the folder"
            )
        declared_bytes = max(entry.file_size, entry.compress_size)
        if declared_bytes > _MAX_IMAGE_BYTES:
            raise DataError(f"{where}: {gib(declared_bytes)} is too large for an image; remove it")
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(entry.header_offset)
                signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
                file.seek(name_bytes + extra_bytes, os.SEEK_CUR)
                data = file.read(entry.compress_size) if signature == b"PK\x03\x04" else b""
            if entry.compress_type == zipfile.ZIP_DEFLATED:
                packed, unpacker = data, zlib.decompressobj(-zlib.MAX_WBITS)
                data = unpacker.decompress(packed, entry.file_size + 1)
                if len(packed) != entry.compress_size or unpacker.unused_data:
                    raise ValueError("wrong size")
        except OSError as error:
            raise DataError(f"{where}: cannot be read ({_reason(error)})") from error
        except (struct.error, zlib.error, ValueError, OverflowError) as error:
            raise DataError(f"{where}: the archive is damaged here ({error}); fetch it again") from error
        if len(data) != entry.file_size or zlib.crc32(data) != entry.CRC:
            raise DataError(f"{where}: the archive is damaged here (wrong checksum); fetch it again")
        return data

    def where(self, name: str) -> str:
        return f"{self.path}/{name}"


def open_source(path: Path) -> ImageSource:
    """Open a folder or a zip archive of images.

    Raises:
        DataError: the path is absent, is neither of the two, or cannot be read.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no such folder or zip archive ({_reason(error)})") from error
    if stat.S_ISDIR(mode):
        return FolderSource(path)
    if stat.S_ISREG(mode):
        return ZipSource(path)
    raise DataError(f"{path}: neither a folder nor a zip archive")


def walk_folder(path: Path, depth: int = _MAX_DEPTH) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Iterate over the entries of a folder and of the folders below it, without hidden ones. Links are followed.

    Args:
        depth: the number of levels.

    Raises:
        DataError: a folder cannot be read.
    """
    pending = [("", depth)]
    while pending:
        prefix, levels = pending.pop()
        try:
            with os.scandir(path / prefix) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    yield prefix + entry.name, entry
                    if levels > 1 and entry.is_dir():
                        pending.append((f"{prefix}{entry.name}/", levels - 1))
        except OSError as error:
            raise DataError(f"{path / prefix}: cannot be read ({_reason(error)}); check its permissions") from error


def open_image(source: ImageSource, name: str, mode: str = "RGB") -> Image.Image:
    """Decode one image. Call it within `quiet_decoding`, to suppress warnings.

    Raises:
        DataError: the file cannot be read or decoded; the message names it.
    """
    return decode(source.read(name), source.where(name), mode)


def read_image(path: Path, mode: str | None = "RGB") -> Image.Image:
    """Decode one image file, as `decode` does. Raises DataError: it cannot be read or decoded."""
    try:
        data = read_regular(path, _MAX_IMAGE_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)})") from error
    return decode(data, str(path), mode)


def image_size(source: ImageSource, name: str) -> tuple[int, int]:
    """Width and height of one image, from its header alone. Raises DataError, as `open_image` does."""
    with _opened(source.read(name), source.where(name)) as image:
        return image.size


def decode(data: bytes, where: str, mode: str | None = "RGB") -> Image.Image:
    """Decode the bytes of a JPEG, PNG, BMP or WebP file: its content tells which, never its name.

    Args:
        data: the bytes.
        where: of the file, for messages.
        mode: Pillow's; None for the file's own.

    Raises:
        DataError: they are no such image, are damaged, or have more pixels than an image of a data set.
    """
    with _opened(data, where) as image:
        image.load()
        return image if mode in (None, image.mode) else image.convert(mode)


@contextlib.contextmanager
def _opened(data: bytes, where: str) -> Iterator[Image.Image]:
    """An image whose header is read and whose pixels are not."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > _MAX_PIXELS:
                raise DataError(f"{where}: {width:,} × {height:,} pixels are too many for an image; scale it down")
            yield image
    except UnidentifiedImageError as error:
        known = ", ".join(_FORMATS)
        raise DataError(f"{where} is no image that can be read ({known}, by its content); remove it") from error
    except (Image.DecompressionBombError, MemoryError, *_BROKEN) as error:
        raise DataError(f"{where} is no image that can be read ({error}); remove it") from error


@contextlib.contextmanager
def quiet_decoding() -> Iterator[None]:
    """Suppress Pillow's warnings of damage that it can read past.

    Use it around whole batches, since filters of warnings are shared by all threads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
