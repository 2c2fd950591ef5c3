"""What is no data set, is damaged, or is more than a machine holds: told in one line."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from test_vision_loading import COUNTS

from onnx_ghn.errors import DataError, OptionError
from onnx_ghn.vision import load_dataset


def fails(path: Path, *texts: str, kind: type[Exception] = DataError, **options: object) -> None:
    with pytest.raises(kind) as caught:
        load_dataset(path, **options)
    for text in texts:
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_data_set(tmp_path, draw):
    fails(tmp_path / "absent", str(tmp_path / "absent"), "no such")
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", "no class folders")
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "flat" / "a.png")
    fails(tmp_path / "flat", "no class folders")
    draw(tmp_path / "single", {"ant": 4})
    fails(tmp_path / "single", "one class folder only ('ant')")
    draw(tmp_path / "single.zip", {"ant": 4})
    fails(tmp_path / "single.zip", "one class folder only ('ant')")
    draw(tmp_path / "hollow", {"ant": 4, "bee": 4})
    (tmp_path / "hollow" / "cat").mkdir()
    (tmp_path / "hollow" / "cat" / "notes.txt").write_text("none")
    fails(tmp_path / "hollow", "class folder 'cat' holds no images")
    draw(tmp_path / "few", {"ant": 2, "bee": 4})
    fails(tmp_path / "few", "class 'ant' has 2 images")
    draw(tmp_path / "tests", {"ant": 2, "bee": 4}, inside="test/")
    fails(tmp_path / "tests", "no train/", split="train")
    os.mkfifo(tmp_path / "pipe")
    fails(tmp_path / "pipe", "neither a folder nor a zip")
    fails(tmp_path / "few", "split 'x'", kind=OptionError, split="x")
    fails(tmp_path / "few", "image size 0", kind=OptionError, image_size=0)


def test_hidden_files_and_other_files_are_passed_over(tmp_path, draw):
    draw(tmp_path / "x", {"ant": 3, "bee": 3})
    (tmp_path / "x" / ".thumbnails").mkdir()
    (tmp_path / "x" / "ant" / "._0000.png").write_bytes(b"resource fork")
    (tmp_path / "x" / "ant" / "notes.txt").write_text("none")
    assert load_dataset(tmp_path / "x", split="trainval").classes == ("ant", "bee")
    draw(tmp_path / "x.zip", {"ant": 3, "bee": 3})
    with zipfile.ZipFile(tmp_path / "x.zip", "a") as archive:
        archive.writestr("__MACOSX/ant/._0000.png", b"resource fork")
        archive.writestr("ant/.DS_Store", b"")
        archive.writestr("readme.txt", b"")
    assert load_dataset(tmp_path / "x.zip", split="trainval").classes == ("ant", "bee")


def test_classes_that_differ(tmp_path, draw):
    for kind in ("folder", "zip"):
        home = tmp_path / kind
        home.mkdir()
        for part, counts in (("train", {"ant": 3, "bee": 3, "cat": 3}), ("test", {"ant": 1, "bee": 1, "cow": 1})):
            draw(home / f"{part}.zip" if kind == "zip" else home, counts, inside=f"{part}/")
        fails(home, "test", "no class cat", "train", split="test")


def test_broken_archives(tmp_path, draw):
    path = tmp_path / "x.zip"
    path.write_bytes(b"no archive at all")
    fails(path, str(path), "neither a folder nor a zip archive")
    path.unlink()
    draw(path, COUNTS)
    data = path.read_bytes()
    for cut in (len(data) // 2, len(data) - 10):
        path.write_bytes(data[:cut])
        fails(path, str(path), "is a damaged zip archive")
    path.unlink()
    draw(path, {"ant": 3, "bee": 3})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("bee/broken.png", b"\x89PNG and then nothing")
    fails(path, f"{path}/bee/broken.png", "no image that can be read")
    # Bytes that changed where an image lies.
    path.unlink()
    draw(path, {"ant": 3, "bee": 3})
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("bee/0001.png").header_offset
    data = bytearray(path.read_bytes())
    data[at + 60] ^= 0xFF
    path.write_bytes(data)
    fails(path, "bee/0001.png", "damaged here")
    data[at] ^= 0xFF
    path.write_bytes(data)
    fails(path, "bee/0001.png", "damaged here")
    (tmp_path / "y.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
        archive.writestr("a/b.txt", "none")
    fails(tmp_path / "y.zip", "no images in it")


def test_an_archive_of_another_part(tmp_path, draw):
    home = tmp_path / "x"
    home.mkdir()
    draw(home / "train.zip", COUNTS, inside="test/")
    fails(home, "train.zip", "test/")


def test_encrypted_and_bloated_archives(tmp_path, draw):
    path = tmp_path / "x.zip"
    draw(path, {"ant": 3, "bee": 3})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    path.write_bytes(data)
    fails(path, "encrypted")
    data[at + 8] ^= 1
    data[at + 24 : at + 28] = (1 << 31).to_bytes(4, "little")  # says that it unpacks to 2 GiB
    path.write_bytes(data)
    fails(path, "too large for an image")
    data[at + 24 : at + 28] = (1 << 20).to_bytes(4, "little")
    path.write_bytes(data)
    fails(path, "damaged here")


def test_broken_images_are_named_the_first_first(tmp_path, draw):
    draw(tmp_path / "x", {"ant": 400, "bee": 400})
    for name in ("bee/0333.png", "ant/0111.png", "bee/0001.png"):
        path = tmp_path / "x" / name
        path.write_bytes(path.read_bytes()[:50])
    fails(tmp_path / "x", "ant/0111.png", "no image that can be read")


def test_images_of_other_sizes(tmp_path, draw):
    draw(tmp_path / "x", {"ant": 100, "bee": 100})
    Image.new("RGB", (9, 8)).save(tmp_path / "x" / "bee" / "0077.png")
    fails(tmp_path / "x", "bee/0077.png", "8 × 9 where others are 8 × 8")
    assert load_dataset(tmp_path / "x", image_size=8).images.shape[1:] == (8, 8, 3)


def test_sets_beyond_memory(tmp_path, draw, monkeypatch):
    from onnx_ghn.vision import decoding

    draw(tmp_path / "x", COUNTS)
    monkeypatch.setattr(decoding, "memory_bytes", lambda: 10000)
    fails(tmp_path / "x", "more than half of this machine's memory")


def test_grey_and_transparent_images(tmp_path, draw):
    draw(tmp_path / "x", {"ant": 3, "bee": 3})
    Image.new("L", (8, 8), 77).save(tmp_path / "x" / "ant" / "0000.png")
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save(tmp_path / "x" / "ant" / "0001.png")
    found = load_dataset(tmp_path / "x", split="trainval", cache_dir=False).images
    test = load_dataset(tmp_path / "x", split="test", cache_dir=False).images
    colours = {tuple(image[0, 0].tolist()) for image in (*found, *test)}
    assert {(77, 77, 77), (1, 2, 3)} < colours


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read anywhere")
def test_folders_that_cannot_be_read(tmp_path, draw):
    draw(tmp_path / "x", {"ant": 3, "bee": 3})
    (tmp_path / "x" / "ant").chmod(0)
    fails(tmp_path / "x", "cannot be read")
    (tmp_path / "x" / "ant").chmod(0o755)
