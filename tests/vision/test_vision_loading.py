"""Data sets from folders and archives; divisions; the decoded cache."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from onnx_ghn.errors import DataError
from onnx_ghn.vision import ImageFiles, ImageSet, few_shot, load_dataset

COUNTS = {"cat": 12, "ant": 10, "bee": 21}


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


def test_reading_images_loads_no_torch():
    code = "import sys, onnx_ghn.prediction.calibration_inputs, onnx_ghn.images.files; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
