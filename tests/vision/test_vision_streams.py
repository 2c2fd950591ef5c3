"""Batches of small images against slow references; resuming; processes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from onnx_ghn.errors import CheckpointError, OptionError
from onnx_ghn.vision import CIFAR_NORM, IMAGENET_NORM, BatchStream, ImageSet, eval_batches, train_stream

# The published figures, written here once more.
MEAN, STD = [0.49139968, 0.48215827, 0.44653124], [0.24703233, 0.24348505, 0.26158768]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def image_set(count: int = 100, size: int = 32, *, ordered: bool = False) -> ImageSet:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, count)
    images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return ImageSet(images, np.sort(labels) if ordered else labels, tuple(map(str, range(10))), "random")


def pixels(batch: torch.Tensor, mean: list[float] = MEAN, std: list[float] = STD) -> np.ndarray:
    """(B, H, W, 3) from 0 to 255."""
    images = batch.permute(0, 2, 3, 1).double() * torch.tensor(std) + torch.tensor(mean)
    return (images * 255).numpy()


def test_published_figures():
    assert (list(CIFAR_NORM.mean), list(CIFAR_NORM.std), CIFAR_NORM.noise_std) == (MEAN, STD, 0.08)
    assert (list(IMAGENET_NORM.mean), list(IMAGENET_NORM.std)) == (IMAGENET_MEAN, IMAGENET_STD)
    assert IMAGENET_NORM.noise_std == 0.18


@pytest.mark.parametrize("channels_last", [False, True])
def test_normalisation_is_torchvisions(channels_last):
    from torchvision import transforms

    images = image_set(20)
    step = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    stream = BatchStream(images, 20, augment=False, channels_last=channels_last)
    (batch,) = stream
    order = [int(np.flatnonzero((images.images == np.rint(p)).all((1, 2, 3)))[0]) for p in pixels(batch.images)]
    assert sorted(order) == list(range(20))
    expected = torch.stack([step(images.images[i]) for i in order])
    torch.testing.assert_close(batch.images, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(batch.labels, images.labels[order])
    assert batch.images.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert batch.images.is_contiguous() != channels_last
    assert batch.images.dtype == torch.float32


def test_windows_and_mirrors_against_a_slow_search():
    """Every image of a batch is a window of its padded image, mirrored or not; every one of them comes."""
    images = image_set(64, 12)
    stream = BatchStream(images, 64)
    padded = np.zeros((64, 20, 20, 3), np.uint8)
    padded[:, 4:16, 4:16] = images.images
    seen = []
    for _ in range(12):
        batch = next(stream)
        order = stream._order.mine(stream.step - 1)
        np.testing.assert_array_equal(batch.labels, images.labels[order])
        for image, index in zip(np.rint(pixels(batch.images)), order, strict=True):
            found = [
                (top, left, mirrored)
                for top in range(9)
                for left in range(9)
                for mirrored in (False, True)
                if (padded[index, top : top + 12, left : left + 12][:, :: -1 if mirrored else 1] == image).all()
            ]
            assert len(found) == 1
            seen += found
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(9))
    share = np.mean([mirrored for _, _, mirrored in seen])
    assert abs(share - 0.5) < 0.06  # 768 tosses: over three standard deviations
    assert abs(np.mean([top for top, _, _ in seen]) - 4) < 0.35


def test_epochs_show_every_image_once():
    images = image_set(100)
    stream = train_stream(images, 32, augment=False)
    assert (stream.steps_per_epoch, stream.epoch, stream.step) == (4, 0, 0)
    orders = []
    for epoch in range(2):
        assert stream.epoch == epoch
        batches = list(stream)
        assert [len(batch.labels) for batch in batches] == [32, 32, 32, 4]
        shown = np.concatenate([np.rint(pixels(batch.images)) for batch in batches])
        keys = [image.astype(np.uint8).tobytes() for image in shown]
        assert sorted(keys) == sorted(image.tobytes() for image in images.images)
        orders.append(keys)
    assert orders[0] != orders[1]
    dropping = train_stream(images, 32, drop_last=True)
    assert [len(batch.labels) for batch in dropping] == [32, 32, 32]


def test_resuming_gives_the_same_bytes():
    images = image_set(100)
    whole = BatchStream(images, 32, cutout=8, seed=5)
    batches = [next(whole) for _ in range(11)]
    for stop in (0, 1, 4, 6):
        first = BatchStream(images, 32, cutout=8, seed=5)
        for _ in range(stop):
            next(first)
        state = json.loads(json.dumps(first.state_dict()))
        second = BatchStream(images, 32, cutout=8, seed=5)
        second.load_state_dict(state)
        for expected in batches[stop:]:
            found = next(second)
            assert torch.equal(found.images, expected.images)
            assert torch.equal(found.labels, expected.labels)
    assert torch.equal(whole.batch(3).images, batches[3].images)
    # The rest of an epoch after a stop within it.
    second.load_state_dict({**state, "step": 6})
    assert len(list(second)) == 2
    other = BatchStream(images, 32, cutout=8, seed=6)
    assert not torch.equal(other.batch(0).images, batches[0].images)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"seed": 2}, "seed was 2"), ({"count": 99}, "count"), ({"batch_size": 8}, "batch_size"),
        ({"world": 2}, "world"), ({"step": -1}, "step -1"), ({"step": "x"}, "step 'x'"),
    ],
)  # fmt: skip
def test_states_of_other_streams(change, text):
    stream = BatchStream(image_set(), 32)
    with pytest.raises(CheckpointError, match=text):
        stream.load_state_dict({**stream.state_dict(), **change})
    with pytest.raises(CheckpointError, match="step"):
        stream.load_state_dict({k: v for k, v in stream.state_dict().items() if k != "step"})


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_batches_of_one(world):
    images = image_set(96)
    one = BatchStream(images, 32, cutout=4)
    parts = [BatchStream(images, 32 // world, cutout=4, rank=rank, world=world) for rank in range(world)]
    for _ in range(5):
        whole, shares = next(one), [next(part) for part in parts]
        for rank, share in enumerate(shares):
            assert torch.equal(share.images, whole.images[rank::world])
            assert torch.equal(share.labels, whole.labels[rank::world])


def test_every_process_gets_as_many():
    images = image_set(99)
    parts = [BatchStream(images, 32, rank=rank, world=2) for rank in range(2)]
    sizes = [[len(batch.labels) for batch in part] for part in parts]
    assert sizes == [[32, 18], [32, 18]]  # 99 and one that comes twice
    assert [len(part.batch(1).labels) for part in (BatchStream(image_set(4), 1, rank=2, world=3),)] == [1]


def test_cutout():
    """Squares of zeros around a random pixel, cut off at the borders; nothing else changes."""
    images = image_set(64)
    plain, cut = BatchStream(images, 64), BatchStream(images, 64, cutout=16)
    heights = set()
    for _ in range(4):
        expected, found = next(plain).images, next(cut).images
        for before, after in zip(expected, found, strict=True):
            blank = (after == 0).all(0)
            rows, columns = torch.nonzero(blank.any(1)).flatten(), torch.nonzero(blank.any(0)).flatten()
            assert blank[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            assert int(blank.sum()) == len(rows) * len(columns)
            assert torch.equal(after[:, ~blank], before[:, ~blank])
            heights.add(len(rows))
            assert len(rows) == 16 or rows[0] == 0 or rows[-1] == 31
    assert heights <= set(range(8, 17))
    assert {8, 16} < heights


def test_resizing():
    images = image_set(8)
    full = BatchStream(images, 8).batch(0).images
    small = BatchStream(images, 8, resize_to=16).batch(0).images
    torch.testing.assert_close(small, F.avg_pool2d(full, 2), rtol=0, atol=1e-5)
    assert (
        BatchStream(images, 8, resize_to=16, channels_last=True)
        .batch(0)
        .images.is_contiguous(memory_format=torch.channels_last)
    )
    odd = BatchStream(images, 8, resize_to=24).batch(0).images
    torch.testing.assert_close(odd, F.adaptive_avg_pool2d(full, 24), rtol=0, atol=1e-5)
    (large,) = eval_batches(images, 8, resize_to=64)
    from PIL import Image

    expected = np.stack(
        [np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR)) for image in images.images]
    )
    np.testing.assert_allclose(pixels(large.images, IMAGENET_MEAN, IMAGENET_STD), expected, atol=1.01)  # it rounds
    (same,) = eval_batches(images, 8, resize_to=32)
    np.testing.assert_allclose(pixels(same.images), images.images, atol=1e-3)


def test_evaluation_keeps_a_mixed_order_and_mixes_a_sorted_one():
    images = image_set(100)
    found = torch.cat([batch.labels for batch in eval_batches(images, 32)])
    np.testing.assert_array_equal(found, images.labels)
    images = image_set(500, ordered=True)
    batches = list(eval_batches(images, 64))
    assert [len(batch.labels) for batch in batches] == [64] * 7 + [52]
    assert all(len(set(batch.labels.tolist())) >= 8 for batch in batches)
    shown = np.concatenate([np.rint(pixels(batch.images)).astype(np.uint8) for batch in batches])
    assert sorted(i.tobytes() for i in shown) == sorted(i.tobytes() for i in images.images)
    again = torch.cat([batch.labels for batch in eval_batches(images, 16)])
    np.testing.assert_array_equal(again, torch.cat([batch.labels for batch in batches]))


def test_noise():
    """Gaussian of the published width, cut off at black and white, the same in every batch size."""
    images = image_set(60)
    grey = ImageSet(np.full((60, 32, 32, 3), 128, np.uint8), images.labels, images.classes, "grey")
    found = torch.cat([batch.images for batch in eval_batches(grey, 64, noise=True)])
    values = pixels(found) / 255
    assert abs(values.std() - 0.08) < 0.001
    assert abs(values.mean() - 128 / 255) < 0.001
    assert len({image.tobytes() for image in values}) == 60
    noisy = torch.cat([batch.images for batch in eval_batches(images, 64, noise=True)])
    small = torch.cat([batch.images for batch in eval_batches(images, 7, noise=True, channels_last=True)])
    torch.testing.assert_close(noisy, small, rtol=0, atol=1e-5)
    values = pixels(noisy) / 255
    assert values.min() > -1e-6
    assert values.max() < 1 + 1e-6
    other = next(eval_batches(grey, 64, noise=True, seed=2)).images
    assert not torch.equal(other, found)


def test_options_that_make_no_sense():
    images = image_set()
    for options in ({"batch_size": 0}, {"seed": -1}, {"cutout": -1}, {"resize_to": 0}, {"rank": 1}, {"world": 0}):
        with pytest.raises(OptionError):
            train_stream(images, **options)
    with pytest.raises(OptionError, match="no batch"):
        train_stream(images, 101, drop_last=True)
    for options in ({"batch_size": 0}, {"resize_to": -1}, {"seed": -1}):
        with pytest.raises(OptionError):
            next(eval_batches(images, **options))
