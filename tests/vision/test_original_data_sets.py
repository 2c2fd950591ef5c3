"""Data sets as their authors publish them: files, downloads, the commands that fetch them."""

from __future__ import annotations

import hashlib
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from test_vision_loading import assert_images
from torchvision import datasets

from onnx_ghn.errors import DataError, OptionError
from onnx_ghn.vision import fetch_dataset, load_dataset
from onnx_ghn.vision import original as original_files_of

SHARED = Path(__file__).resolve().parents[3] / "shared" / "datasets"


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


def test_the_originals_lie_where_torchvision_puts_them() -> None:
    for name, kind in original_files_of.ORIGINALS.items():
        found = getattr(datasets, kind)
        assert original_files_of._PLACES[name] == (found.base_folder, found.filename)
