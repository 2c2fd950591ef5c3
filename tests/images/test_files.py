"""Image files of others: judged by what they hold, read within limits, decoded once."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_ghn.errors import DataError
from onnx_ghn.images import files
from onnx_ghn.images.files import decode, image_size, open_image, open_source, read_image
from onnx_ghn.prediction.calibration_inputs import _Pictures

COLOUR = (9, 99, 200)


def encoded(kind: str, size: tuple[int, int] = (8, 6), colour: tuple[int, int, int] = COLOUR) -> bytes:
    out = io.BytesIO()
    more = {"lossless": True} if kind == "WEBP" else {}
    Image.new("RGB", size, colour).save(out, format=kind, **more)
    return out.getvalue()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp"])
@pytest.mark.parametrize("kind", ["PPM", "TIFF", "GIF", "ICO", "TGA", "PCX", "DDS", "JPEG2000", "EPS"])
def test_other_formats_are_refused_whatever_their_name(tmp_path: Path, name: str, kind: str) -> None:
    size = (16, 16) if kind == "ICO" else (8, 6)
    (tmp_path / name).write_bytes(encoded(kind, size))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr(name, encoded(kind, size))
    for source in (open_source(tmp_path), open_source(tmp_path / "z.zip")):
        for reads in (open_image, image_size):
            with pytest.raises(DataError, match="is no image that can be read"):
                reads(source, name)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["a.png", "a.JPEG", "a.bmp", "a.webp"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_the_content_tells_the_format(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(encoded(kind))
    source = open_source(tmp_path)
    assert source.names == [name]
    assert image_size(source, name) == (8, 6)
    for image in (open_image(source, name), read_image(tmp_path / name)):
        assert np.abs(np.asarray(image, int) - COLOUR).max() <= (4 if kind == "JPEG" else 0)


def _png_of(width: int, height: int) -> bytes:
    """A PNG that declares a size, with a few bytes of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(8193, 8192), (1 << 20, 1 << 20), (1 << 30, 1), (100_000, 700)])
def test_too_many_pixels(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"too many for an image|no image that can be read"):
        decode(_png_of(*size), "a.png")


def test_the_limit_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MAX_PIXELS", 48)
    for kind in ("JPEG", "PNG", "BMP", "WEBP"):
        assert decode(encoded(kind, (8, 6)), "a").size == (8, 6)
        with pytest.raises(DataError, match=r"a: 7 × 7 pixels are too many for an image; scale it down"):
            decode(encoded(kind, (7, 7)), "a")


def test_the_limit_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder's files are held to the limit that an archive's are held to."""
    data = encoded("BMP", (20, 20))
    (tmp_path / "a.bmp").write_bytes(data)
    for name, method in (("s.zip", zipfile.ZIP_STORED), ("d.zip", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / name, "w", method) as archive:
            archive.writestr("a.bmp", data)
    sources = [open_source(tmp_path), open_source(tmp_path / "s.zip"), open_source(tmp_path / "d.zip")]
    monkeypatch.setattr(files, "_MAX_IMAGE_BYTES", len(data))
    assert all(open_image(source, "a.bmp").size == (20, 20) for source in sources)
    monkeypatch.setattr(files, "_MAX_IMAGE_BYTES", len(data) - 1)
    for source in sources:
        with pytest.raises(DataError, match=r"more than|too large"):
            open_image(source, "a.bmp")
    with pytest.raises(DataError, match="more than"):
        read_image(tmp_path / "a.bmp")


@pytest.mark.parametrize("field", ["packed", "unpacked", "offset", "all"])
@pytest.mark.parametrize("value", [0, 1, 200, 100_000, (1 << 28) - 1, (1 << 31) - 1])
def test_declared_sizes_that_are_wrong(tmp_path: Path, field: str, value: int) -> None:
    """In the directory of an archive, whatever its entries hold; a few hundred bytes are read, not gigabytes."""
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.bmp", encoded("BMP", (20, 20)))
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    for name, at in (("packed", 20), ("unpacked", 24), ("offset", 42)):
        if field in (name, "all"):
            struct.pack_into("<I", data, directory + at, value)
    path.write_bytes(data)
    try:
        image = open_image(open_source(path), "a.bmp")
    except DataError as error:
        assert "damaged" in str(error) or "too large" in str(error) or "cannot be read" in str(error)  # noqa: PT017
    else:
        assert (field, value) == ("offset", 0)
        assert image.size == (20, 20)


def test_what_is_no_regular_file_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    assert open_source(tmp_path).names == []
    for name in ("a.png", "b.png", "absent.png"):
        with pytest.raises(DataError, match="cannot be read"):
            read_image(tmp_path / name)


def test_each_image_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(encoded("PNG", (number + 1, 4), (number, 0, 0)))
    decoded = []
    load = Image.Image.load
    pictures = _Pictures(open_source(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(files, "decode", lambda data, where, mode: decoded.append(where) or decode(data, where, mode))
        for _ in range(4):
            images = [pictures.open(name, "RGB") for name in pictures.names]
            assert [image.size for image in images] == [(1, 4), (2, 4), (3, 4)]
            assert [image.getpixel((0, 0)) for image in images] == [(0, 0, 0), (1, 0, 0), (2, 0, 0)]
    assert len(decoded) == 3
    with monkeypatch.context() as patch:  # a header is enough for a size
        patch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
        assert image_size(open_source(tmp_path), "2.png") == (3, 4)
    assert Image.Image.load is load
