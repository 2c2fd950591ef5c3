"""Data sets from folders, archives and torchvision's files; divisions; the decoded cache."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from torchvision import datasets

from onnx_ghn.errors import DataError, OptionError
from onnx_ghn.vision import ImageFiles, ImageSet, fetch_dataset, few_shot, load_dataset
from onnx_ghn.vision import original as original_files_of

COUNTS = {"cat": 12, "ant": 10, "bee": 21}
SHARED = Path(__file__).resolve().parents[3] / "shared" / "datasets"


def of(pixels: dict[str, np.ndarray], *chosen: tuple[str, int]) -> list[np.ndarray]:
    return [pixels[f"{folder}/{i:04}.png"] for folder, i in chosen]


def assert_images(found: object, expected: list[np.ndarray], labels: list[int]) -> None:
    assert isinstance(found, ImageSet)
    assert found.images.dtype == np.uint8
    np.testing.assert_array_equal(found.images, np.stack(expected))
    np.testing.assert_array_equal(found.labels, labels)


@pytest.mark.parametrize("form", ["folders", "zips", "one zip", "wrapped zip", "bare zips"])
def test_class_folders_in_every_form(tmp_path, draw, form):
    home = tmp_path / "animals"
    home.mkdir()
    target, outer = home, ""
    if form == "one zip":
        target = home = tmp_path / "animals.zip"
    elif form == "wrapped zip":
        target, outer = tmp_path / "animals.zip", "some/where/"
        home = target
    train = {}
    for part, counts, seed in (("train", COUNTS, 0), ("test", {"ant": 2, "bee": 1, "cat": 1}, 1)):
        if form.endswith("zips"):
            inside = "" if form == "bare zips" else f"{part}/"
            pixels = draw(home / f"{part}.zip", counts, inside=inside, seed=seed)
        else:
            pixels = draw(target, counts, inside=f"{outer}{part}/", seed=seed)
        train[part] = {"/".join(name.split("/")[-2:]): image for name, image in pixels.items()}
    # A tenth of each class, the last, is for validation.
    cut = {"ant": 9, "bee": 19, "cat": 11}
    expected = of(train["train"], *[(folder, i) for folder, end in cut.items() for i in range(end)])
    found = load_dataset(home, split="train")
    assert_images(found, expected, [0] * 9 + [1] * 19 + [2] * 11)
    assert found.classes == ("ant", "bee", "cat")
    assert found.name == "animals"
    held_out = of(train["train"], ("ant", 9), ("bee", 19), ("bee", 20), ("cat", 11))
    assert_images(load_dataset(home, split="val"), held_out, [0, 1, 1, 2])
    assert_images(load_dataset(home, split="trainval"), list(train["train"].values()), [0] * 10 + [1] * 21 + [2] * 12)
    assert_images(load_dataset(home, split="test"), list(train["test"].values()), [0, 0, 1, 2])


@pytest.mark.parametrize("name", ["photos", "photos.zip"])
def test_undivided_class_folders_are_divided_at_random(tmp_path, draw, name):
    pixels = draw(tmp_path / name, COUNTS)
    parts = {split: load_dataset(tmp_path / name, split=split) for split in ("train", "val", "test", "trainval")}
    for split, counts in {"val": [1, 2, 1], "test": [1, 2, 1], "train": [8, 17, 10], "trainval": [9, 19, 11]}.items():
        np.testing.assert_array_equal(np.bincount(parts[split].labels), counts)
    keys = {split: {image.tobytes() for image in part.images} for split, part in parts.items()}
    assert keys["train"] | keys["val"] == keys["trainval"]
    assert keys["trainval"] | keys["test"] == {image.tobytes() for image in pixels.values()}
    assert len(keys["trainval"]) + len(keys["test"]) == len(pixels)
    again = load_dataset(tmp_path / name, split="test")
    np.testing.assert_array_equal(again.images, parts["test"].images)
    others = load_dataset(tmp_path / name, split="test", seed=2)
    assert {image.tobytes() for image in others.images} != keys["test"]


def test_validation_folders(tmp_path, draw):
    """val/ alone is the test set, as ImageNet's; beside test/ it is what it says."""
    pixels = draw(tmp_path / "a", COUNTS, inside="train/")
    val = draw(tmp_path / "a", {"ant": 1, "bee": 1, "cat": 1}, inside="val/", seed=1)
    assert_images(load_dataset(tmp_path / "a", split="test"), list(val.values()), [0, 1, 2])
    assert len(load_dataset(tmp_path / "a", split="train")) == len(pixels) - 4
    draw(tmp_path / "a", {"ant": 2, "bee": 2, "cat": 2}, inside="test/", seed=2)
    assert_images(load_dataset(tmp_path / "a", split="val"), list(val.values()), [0, 1, 2])
    assert len(load_dataset(tmp_path / "a", split="train")) == len(pixels)
    assert len(load_dataset(tmp_path / "a", split="test")) == 6


def test_imagenet(tmp_path, draw):
    """Files, not an array; the last 50 of each class for validation; val/ is the test set."""
    counts = {"n02": 620, "n01": 40}
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for folder, count in counts.items():
            path = tmp_path / "imagenet" / part / folder
            path.mkdir(parents=True)
            Image.fromarray(rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(path / "0.JPEG")
            for i in range(1, count if part == "train" else 2):
                os.link(path / "0.JPEG", path / f"{i}.JPEG")
    found = load_dataset("imagenet", tmp_path, "val")
    assert isinstance(found, ImageFiles)
    names = [f"n01/{i}.JPEG" for i in sorted(map(str, range(40)))[-4:]]
    names += [f"n02/{i}.JPEG" for i in sorted(map(str, range(620)))[-50:]]
    assert [str(name) for name in found.names] == names
    np.testing.assert_array_equal(found.labels, [0] * 4 + [1] * 50)
    assert len(load_dataset("imagenet", tmp_path, "train")) == 660 - 54
    assert len(load_dataset("ImageNet", tmp_path, "trainval")) == 660
    test = load_dataset("imagenet", tmp_path, "test")
    assert [str(name) for name in test.names] == ["n01/0.JPEG", "n01/1.JPEG", "n02/0.JPEG", "n02/1.JPEG"]
    assert (test.image_size, test.norm.mean, test.norm.std, test.norm.noise_std) == (
        224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.18,
    )  # fmt: skip


def test_large_images_in_memory(tmp_path, draw):
    """On demand everything is scaled to small squares."""
    pixels = draw(tmp_path / "big", {"a": 3, "b": 4}, size=(90, 70))
    found = load_dataset(tmp_path / "big", split="trainval", image_size=16)
    assert found.images.shape == (5, 16, 16, 3)
    scaled = {
        np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR)).tobytes()
        for image in pixels.values()
    }
    assert {image.tobytes() for image in found.images} < scaled
    assert isinstance(load_dataset(tmp_path / "big", image_size=96), ImageFiles)
    assert load_dataset(tmp_path / "big", image_size=96).image_size == 96
    assert isinstance(load_dataset(tmp_path / "big"), ImageFiles)


# -- torchvision's files -------------------------------------------------------------------------------------


@pytest.fixture
def original(tmp_path, monkeypatch) -> tuple[Path, np.ndarray, list[int]]:
    """CIFAR-10 as torchvision keeps it, of 20 images a file. Returns the folder, training images and labels."""
    from torchvision.datasets import CIFAR10

    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "cifar10" / CIFAR10.base_folder
    folder.mkdir(parents=True)

    def write(name: str, content: object) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    images, labels, files = [], [], []
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        data, targets = rng.integers(0, 256, (20, 3072), dtype=np.uint8), rng.integers(0, 10, 20).tolist()
        files.append(write(name, {"data": data, "labels": targets}))
        images.append(data.reshape(20, 3, 32, 32).transpose(0, 2, 3, 1))
        labels += targets
    names = [f"class{i}" for i in range(10)]
    meta = write("batches.meta", {"label_names": names})
    monkeypatch.setattr(CIFAR10, "train_list", files[:5])
    monkeypatch.setattr(CIFAR10, "test_list", files[5:])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return folder, np.concatenate(images), labels


def test_the_original_cifar(tmp_path, original):
    folder, images, labels = original
    for _ in range(2):  # decoded, then from the cache
        assert_images(load_dataset("cifar10", tmp_path / "data"), list(images[:90]), labels[:90])
        assert_images(load_dataset("CIFAR10", tmp_path / "data", "val"), list(images[90:100]), labels[90:100])
        found = load_dataset("cifar10", tmp_path / "data", "test")
        assert_images(found, list(images[100:]), labels[100:])
        assert found.classes == tuple(f"class{i}" for i in range(10))
        assert len(load_dataset("cifar10", tmp_path / "data" / "cifar10", "trainval", download=True)) == 100
    with pytest.raises(OptionError, match="resize_to"):
        load_dataset("cifar10", tmp_path / "data", image_size=16)
    (folder / "data_batch_3").write_bytes(b"else")
    with pytest.raises(DataError, match="wrong checksum"):
        load_dataset("cifar10", tmp_path / "data")
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match="incomplete or damaged"):
        load_dataset("cifar10", tmp_path / "data")


def test_an_archive_of_the_original_cifar(tmp_path, original, monkeypatch):
    import tarfile

    from torchvision.datasets import CIFAR10

    folder, images, labels = original
    home = tmp_path / "packed"
    home.mkdir()
    with tarfile.open(home / CIFAR10.filename, "w:gz") as archive:
        archive.add(folder, CIFAR10.base_folder)
    with pytest.raises(DataError, match="wrong checksum"):
        load_dataset("cifar10", home)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5((home / CIFAR10.filename).read_bytes()).hexdigest())
    assert_images(load_dataset("cifar10", home, "trainval"), list(images[:100]), labels[:100])


def test_downloads(tmp_path, original, monkeypatch):
    from torchvision.datasets import CIFAR10

    with pytest.raises(DataError, match=r"no cifar10 in it.*download"):
        load_dataset("cifar10", tmp_path / "none")
    with pytest.raises(OptionError, match="can be downloaded"):
        load_dataset("imagenet", tmp_path / "none", download=True)
    monkeypatch.setattr(CIFAR10, "url", (tmp_path / "absent.tar.gz").as_uri())
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        load_dataset("cifar10", tmp_path / "none", download=True)
    assert "\n" not in str(caught.value)


def test_fetching_is_downloading_alone(tmp_path, original, monkeypatch):
    from torchvision.datasets import CIFAR10

    fetch_dataset("cifar10", tmp_path / "data")  # it is there
    with pytest.raises(OptionError, match="only cifar10 and cifar100 can be downloaded"):
        fetch_dataset(tmp_path / "data")
    monkeypatch.setattr(CIFAR10, "url", (tmp_path / "absent.tar.gz").as_uri())
    with pytest.raises(DataError, match="could not be downloaded"):
        fetch_dataset("cifar10", tmp_path / "none")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nas", "-o", "nas", "--train", "1", "--download"],
        ["nas", "-o", "nas", "--compare", "1", "--download"],
        ["finetune", "EXAMPLE", "-o", "tuned.onnx", "--data", "cifar10", "--download"],
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[-2]}",
)
def test_commands_fetch_before_the_work(tmp_path, monkeypatch, arguments):
    """Both by the same function, and before anything is searched, read or written."""
    from onnx_ghn import vision
    from onnx_ghn.cli.group import cli

    asked = []

    def fetch(dataset, data_dir):
        asked.append((dataset, data_dir))
        raise DataError("no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vision, "fetch_dataset", fetch, raising=False)
    example = str(Path(__file__).resolve().parents[2] / "data/examples/resnet18_cifar10.onnx")
    outcome = CliRunner().invoke(cli, [example if each == "EXAMPLE" else each for each in arguments])
    assert isinstance(outcome.exception, DataError), outcome.output
    assert asked == [("cifar10", "./data")]
    assert list(tmp_path.iterdir()) == []


# -- few shots -----------------------------------------------------------------------------------------------


def test_few_shots(tmp_path, draw):
    draw(tmp_path / "x", COUNTS, inside="train/")
    draw(tmp_path / "x", {"ant": 1, "bee": 1, "cat": 1}, inside="test/")
    every = load_dataset(tmp_path / "x", split="trainval")
    first = few_shot(every, 3)
    np.testing.assert_array_equal(first.images, every.images[[0, 1, 2, 10, 11, 12, 31, 32, 33]])
    np.testing.assert_array_equal(first.labels, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(few_shot(every, 2, skip=3).images, every.images[[3, 4, 13, 14, 34, 35]])
    mixed = every.subset(np.random.default_rng(0).permutation(len(every)))
    seen: dict[int, int] = {}
    slow = []
    for i, label in enumerate(mixed.labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= 4:
            slow.append(i)
    np.testing.assert_array_equal(few_shot(mixed, 4).images, mixed.images[slow])
    one, two = few_shot(every, 4, seed=7), few_shot(every, 4, seed=7, skip=4)
    assert not {i.tobytes() for i in one.images} & {i.tobytes() for i in two.images}
    np.testing.assert_array_equal(one.images, few_shot(every, 4, seed=7).images)
    with pytest.raises(DataError, match=r"'ant' has 10 images, 11 are asked for"):
        few_shot(every, 8, skip=3)


# -- the cache -----------------------------------------------------------------------------------------------


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    from onnx_ghn.vision import loading

    calls: list[int] = []
    real = loading.decode_all
    monkeypatch.setattr(loading, "decode_all", lambda *a, **k: calls.append(1) or real(*a, **k))
    return calls


@pytest.mark.parametrize("name", ["x", "x.zip"])
def test_the_cache_follows_the_files(tmp_path, draw, cache, monkeypatch, name):
    draw(tmp_path / name, COUNTS)
    calls = decoded(monkeypatch)
    told = []
    first = load_dataset(tmp_path / name, progress=lambda done, every: told.append((done, every)))
    assert told == [(43, 43)]
    second = load_dataset(tmp_path / name)
    assert len(calls) == 1
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.classes == second.classes
    changed = draw(tmp_path / name, {"dog": 3}, seed=4)
    third = load_dataset(tmp_path / name)
    assert (len(calls), len(third.classes), len(changed)) == (2, 4, 3)
    assert len(list(cache.iterdir())) == 1  # the new in the place of the old
    (entry,) = cache.iterdir()
    for damage in (entry.read_bytes()[:1000], b"", b"\xff" * 64):
        entry.write_bytes(damage)
        np.testing.assert_array_equal(load_dataset(tmp_path / name).images, third.images)
    assert len(calls) == 5
    load_dataset(tmp_path / name, cache_dir=False)
    assert len(calls) == 6


def test_a_cache_that_cannot_be_written(tmp_path, draw, cache, monkeypatch):
    draw(tmp_path / "x", COUNTS)
    cache.write_text("a file, not a folder")
    calls = decoded(monkeypatch)
    for _ in range(2):
        assert len(load_dataset(tmp_path / "x")) == 35
    assert len(calls) == 2
    assert cache.read_text() == "a file, not a folder"


# -- bad input -----------------------------------------------------------------------------------------------


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
    fails(path, str(path), "no zip archive")
    path.unlink()
    draw(path, COUNTS)
    data = path.read_bytes()
    for cut in (len(data) // 2, len(data) - 10):
        path.write_bytes(data[:cut])
        fails(path, str(path), "no zip archive")
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


def test_the_jpeg_cifar10(tmp_path):
    if not (SHARED / "cifar10" / "test.zip").is_file():
        pytest.skip(f"no CIFAR-10 (JPEG) at {SHARED}")
    found = load_dataset("cifar10", SHARED, "test")
    assert found.images.shape == (10000, 32, 32, 3)
    assert found.classes == (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip
    np.testing.assert_array_equal(np.bincount(found.labels), [1000] * 10)
    # The original's channel statistics, which JPEG hardly moves.
    np.testing.assert_allclose(found.images.mean((0, 1, 2)) / 255, found.norm.mean, atol=0.01)
    np.testing.assert_allclose(found.images.std((0, 1, 2)) / 255, found.norm.std, atol=0.01)
    start = time.perf_counter()
    again = load_dataset("cifar10", SHARED, "test")
    assert time.perf_counter() - start < 1
    np.testing.assert_array_equal(again.images, found.images)


def test_reading_images_loads_no_torch():
    code = "import sys, onnx_ghn.prediction.calibration_inputs, onnx_ghn.images.files; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_originals_lie_where_torchvision_puts_them() -> None:
    for name, kind in original_files_of.ORIGINALS.items():
        found = getattr(datasets, kind)
        assert original_files_of._PLACES[name] == (found.base_folder, found.filename)
