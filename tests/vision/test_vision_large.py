"""Batches from files: the published transforms, workers, resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from onnx_ghn.errors import DataError, OptionError
from onnx_ghn.vision import FileStream, ImageFiles, eval_batches, load_dataset, train_stream

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture
def files(tmp_path, draw) -> ImageFiles:
    draw(tmp_path / "imagenet", {"n1": 14, "n2": 12}, size=(70, 90), inside="train/")
    draw(tmp_path / "imagenet", {"n1": 7, "n2": 6}, size=(90, 70), inside="val/", seed=1)
    found = load_dataset("imagenet", tmp_path, "trainval", image_size=96)
    assert isinstance(found, ImageFiles)
    return found


def test_evaluation_is_the_published_one(tmp_path, files):
    """Order and transforms as of a torch DataLoader that shuffles under the published seed."""
    data = load_dataset("imagenet", tmp_path, "test")
    step = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )
    paths = sorted((tmp_path / "imagenet" / "val").rglob("*.png"))
    expected = torch.stack([step(Image.open(path).convert("RGB")) for path in paths])
    generator = torch.Generator().manual_seed(1111)
    indices = torch.utils.data.DataLoader(range(13), batch_size=5, shuffle=True, generator=generator)
    before = torch.get_rng_state()
    for found, chosen in zip(eval_batches(data, 5, workers=0), indices, strict=True):
        torch.testing.assert_close(found.images, expected[chosen], rtol=0, atol=1e-6)
        assert found.labels.tolist() == [0 if i < 7 else 1 for i in chosen]
    assert torch.equal(torch.get_rng_state(), before)


def test_noise(tmp_path, draw):
    for label in ("a", "b"):
        (tmp_path / "grey" / label).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (70, 70), (128,) * 3).save(tmp_path / "grey" / label / f"{i}.png")
    data = load_dataset(tmp_path / "grey", split="trainval")
    (batch,) = eval_batches(data, noise=True, workers=0)
    values = batch.images.permute(0, 2, 3, 1) * torch.tensor(STD) + torch.tensor(MEAN)
    # A normal of 0.18 around the middle, cut off at 0 and 1, has a standard deviation of 0.1793.
    assert abs(float(values.std()) - 0.1793) < 0.001
    assert float(values.min()) > -1e-6
    assert float(values.max()) < 1 + 1e-6
    assert len({image.numpy().tobytes() for image in batch.images}) == 4


def test_augmentation_is_the_published_one(files):
    """One image, by torchvision's own transforms under the same global seed."""
    from onnx_ghn.vision.seeds import AUGMENT, rng_for

    stream = FileStream(files, 4, workers=0)
    step = transforms.Compose(
        [
            transforms.RandomResizedCrop(96),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.4, 0.4, 0.4, 0.2),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    batch = next(iter(stream))
    assert batch.images.shape == (4, 3, 96, 96)
    for found, index in zip(batch.images, stream._order.mine(0).tolist(), strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng_for(1111, AUGMENT, 0, index).integers(2**63)))
            with Image.open(Path(files.source.path) / files.names[index]) as image:
                torch.testing.assert_close(found, step(image.convert("RGB")), rtol=0, atol=0)


def test_workers_and_resuming_change_nothing(tmp_path, files, draw):
    plain = train_stream(files, 8, workers=0)
    batches = [*plain, *plain]
    assert (len(batches), plain.epoch, plain.step) == (8, 2, 8)
    assert [len(batch.labels) for batch in batches[:4]] == [8, 8, 8, 2]
    assert not torch.equal(batches[0].images, batches[4].images)
    stream = train_stream(files, 8, workers=2)
    found = []
    for batch in stream:
        found.append(batch)
        if len(found) == 2:
            break
    state = stream.state_dict()
    assert state["step"] == 2  # although workers are ahead
    second = train_stream(files, 8, workers=1, channels_last=True)
    second.load_state_dict(state)
    found += [*second, *second]
    assert len(found) == 8
    for one, other in zip(found, batches, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
    # The first stream goes on where it was left, too.
    assert torch.equal(next(iter(stream)).images, batches[2].images)


def test_processes_share_the_batches_of_one(files):
    one = train_stream(files, 8, workers=0)
    parts = [train_stream(files, 4, workers=0, rank=rank, world=2) for rank in range(2)]
    for whole, first, second in zip(one, *parts, strict=True):
        assert torch.equal(whole.images[0::2], first.images)
        assert torch.equal(whole.images[1::2], second.images)


def test_archives_are_read_by_workers(tmp_path, draw):
    draw(tmp_path / "x.zip", {"a": 8, "b": 8}, size=(70, 66))
    draw(tmp_path / "y", {"a": 8, "b": 8}, size=(70, 66))
    batches = [list(eval_batches(load_dataset(tmp_path / name), 4, workers=2)) for name in ("x.zip", "y")]
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.images, other.images)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_named(tmp_path, files, workers):
    path = Path(files.source.path) / files.names[3]
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(DataError) as caught:
        list(train_stream(files, 8, workers=workers))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        list(eval_batches(files, 8, workers=workers))


def test_options_that_make_no_sense(files):
    with pytest.raises(OptionError, match="cutout"):
        train_stream(files, cutout=16)
    with pytest.raises(OptionError, match="resize_to"):
        eval_batches(files, resize_to=16)
    with pytest.raises(OptionError, match="workers"):
        train_stream(files, workers=-1)
    with pytest.raises(OptionError, match="batches of 0"):
        eval_batches(files, 0)


def test_labels_are_int64(files):
    batch = next(iter(train_stream(files, 26, workers=0)))
    assert batch.labels.dtype == torch.int64
    np.testing.assert_array_equal(np.bincount(batch.labels.numpy()), [14, 12])
