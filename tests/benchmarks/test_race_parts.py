"""The three parts of a task's data are disjoint, fixed, and what is judged is what the data set's authors held out."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from racing.data.pictures import fashion_mnist, tiny_imagenet
from racing.data.texts import reviews, shakespeare
from racing.parts import DataAbsentError, split
from racing.tasks import TASKS, splits


@pytest.mark.parametrize("labels", [None, [i % 3 for i in range(100)]])
def test_each_sample_is_in_one_part(labels: list[int] | None) -> None:
    parts = split(100, 20, 30, labels)
    assert [len(part) for part in parts] == [50, 20, 30]
    assert sorted(np.concatenate(parts).tolist()) == list(range(100))
    again = split(100, 20, 30, labels)
    assert all(np.array_equal(one, two) for one, two in zip(parts, again, strict=True))


def test_each_part_has_its_share_of_each_class() -> None:
    labels = [0] * 60 + [1] * 30 + [2] * 10
    for part in split(100, 20, 30, labels):
        counts = np.bincount(np.array(labels)[part], minlength=3) / len(part)
        assert counts == pytest.approx([0.6, 0.3, 0.1], abs=0.051)


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_the_rows_of_a_table_are_dealt_out_once(name: str) -> None:
    from sklearn import datasets

    found = splits(f"table: {name}", Path("nowhere"))
    parts = found.train, found.choose, found.judge
    whole = datasets.load_digits() if name == "digits" else datasets.load_diabetes()
    assert sum(map(len, parts)) == len(whole.data)
    # Columns are scaled by the training part; each row can be told from all others, as in the original.
    rows = torch.cat([part.inputs for part in parts])
    assert len(rows.unique(dim=0)) == len(np.unique(whole.data.astype(np.float32), axis=0))
    varies = found.train.inputs.std(0) > 0
    torch.testing.assert_close(found.train.inputs.mean(0), torch.zeros(rows.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.train.inputs.std(0)[varies], torch.ones(int(varies.sum())))


def test_fashion_mnist_is_judged_on_its_test_images(tmp_path: Path) -> None:
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    for part, n, first in (("train", 40, 0), ("t10k", 10, 100)):
        pixels = np.repeat(np.arange(first, first + n, dtype=np.uint8), 28 * 28)
        labels = (np.arange(n) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\0" * 16 + pixels.tobytes()))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0" * 8 + labels.tobytes()))
    found = fashion_mnist(tmp_path, 25, 10, 6)
    numbers = [part.inputs[:, 0, 16, 16].tolist() for part in (found.train, found.choose, found.judge)]
    assert [len(part) for part in numbers] == [25, 10, 6]
    assert numbers[2] == list(range(100, 106))
    assert not set(numbers[0]) & set(numbers[1])
    assert max(numbers[0] + numbers[1]) < 40
    assert found.train.targets.tolist() == [number % 10 for number in numbers[0]]
    assert found.train.inputs.shape[1:] == TASKS["fashion"].shape


def test_the_tiles_of_a_mosaic_keep_their_class(tmp_path: Path) -> None:
    (tmp_path / "tiny-imagenet-32").mkdir()
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-32" / "mosaics.zip", "w") as file:
        for i, wnid in enumerate(("n01", "n02", "n03")):
            for part, count in (("train", 60), ("val", 50)):
                mosaic = np.full((32 * count // 10, 320, 3), 60 * i + 30 * (part == "val"), np.uint8)
                content = io.BytesIO()
                Image.fromarray(mosaic).save(content, "JPEG", quality=100)
                file.writestr(f"{part}/{wnid}-{count}.jpg", content.getvalue())
    found = tiny_imagenet(tmp_path, n_classes=2, n_train=10)
    assert [len(part) for part in (found.train, found.choose, found.judge)] == [20, 100, 100]
    for part, extra in ((found.train, 0), (found.choose, 0), (found.judge, 30)):
        level = part.inputs.float().mean((1, 2, 3))
        torch.testing.assert_close(level, 60.0 * part.targets + extra, atol=1.0, rtol=0)


def test_characters_are_foretold_in_plays_that_were_not_trained_on(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    text = "".join(chr(33 + i % 65) for i in range(1000))
    with zipfile.ZipFile(tmp_path / "text" / "text-small.zip", "w") as file:
        file.writestr("tinyshakespeare/input.txt", text)
    found = shakespeare(tmp_path, length=10, n_choose=4, n_judge=100)
    assert torch.equal(found.train.inputs[:, 1:], found.train.targets[:, :-1])
    assert found.train.inputs.flatten().tolist() == [i % 65 for i in range(len(found.train) * 10)]
    assert len(found.train) == 79  # of the first 800 characters, the last of which is only foretold
    assert len(found.choose) == 4
    assert found.judge.inputs[0].tolist() == [i % 65 for i in range(900, 910)]


def test_reviews_are_written_in_the_numbers_of_the_plays(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    with zipfile.ZipFile(tmp_path / "text" / "text-small.zip", "w") as file:
        file.writestr("tinyshakespeare/input.txt", "\n abcd")
    with zipfile.ZipFile(tmp_path / "text" / "imdb-small.zip", "w") as file:
        file.writestr("train.tsv", "pos\ta dé\nneg\tb#c\n" * 20)
    found = reviews(tmp_path, length=4, n_choose=2, n_judge=2)
    assert found.train.inputs[:3].tolist() == [[2, 1, 5, 0], [3, 4, 0, 2], [1, 5, 0, 3]]  # "a d\nbc\na d\nb", no é or #
    assert found.train.targets[0].tolist() == [1, 5, 0, 3]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for name, task in TASKS.items():
        if not name.startswith(("table:", "fashion")):  # which are in packages, or may be installed
            with pytest.raises(DataAbsentError, match=r"does not exist"):
                task.load(tmp_path)


def test_nothing_is_judged_on_what_the_ghn_was_trained_on() -> None:
    assert not [name for name in TASKS if "cifar" in name.lower()]
