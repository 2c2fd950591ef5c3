"""Batches of images that are decoded from their files when needed, by worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from onnx_ghn.errors import OnnxGhnError, OptionError, RuntimeFailure
from onnx_ghn.images.files import open_image, quiet_decoding
from onnx_ghn.vision.decoding import default_workers
from onnx_ghn.vision.order import BatchOrder
from onnx_ghn.vision.pixels import add_noise
from onnx_ghn.vision.seeds import AUGMENT, NOISE, rng_for
from onnx_ghn.vision.sets import ImageFiles
from onnx_ghn.vision.streams import Batch

__all__ = ["FileStream", "eval_files"]

# Published: a fifth of hue, two fifths of everything else.
_JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2}


class FileStream:
    """Training batches without end, as `BatchStream`: a batch depends only on the seed and the step.

    Published augmentation: a random part of the image scaled to the crop's size, random mirroring, colour jitter.

    Args:
        workers: processes that decode; by default one a core, eight at most. 0: this process does it.
        device: where the batches go; for CUDA they are put in pinned memory first.
        Others: as in `BatchStream`.
    """

    def __init__(
        self,
        files: ImageFiles,
        batch_size: int = 64,
        *,
        seed: int = 1111,
        augment: bool = True,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = False,
        channels_last: bool = False,
        device: torch.device | str = "cpu",
        workers: int | None = None,
    ) -> None:
        self._order = BatchOrder(len(files), batch_size, seed, rank, world, drop_last)
        self._channels_last = channels_last
        self._device = torch.device(device)
        self._loader = _loader(
            _Decoded(files, seed, augment=augment), self._device, workers, batch_sampler=_Rest(self._order)
        )
        self._ahead: Iterator[Batch] | None = None

    @property
    def batch_size(self) -> int:
        return self._order.batch_size

    @property
    def steps_per_epoch(self) -> int:
        return self._order.steps_per_epoch

    @property
    def step(self) -> int:
        """The next batch, counted from the start of the first epoch."""
        return self._order.step

    @property
    def epoch(self) -> int:
        """That the next batch belongs to."""
        return self._order.epoch

    def __iter__(self) -> Iterator[Batch]:
        """The batches that are left of the present epoch, all of one right after the last."""
        for batch in _batches(self._loader, self._device, self._channels_last):
            self._order.step += 1
            yield batch

    def batch(self, step: int) -> Batch:
        """The batch of a step. In order, they are decoded ahead; another step makes the workers begin anew."""
        if self._ahead is None or step != self._order.step:
            self._order.step = step
            self._ahead = iter(self)
        found = next(self._ahead, None)
        if found is None:  # the epoch is over
            self._ahead = iter(self)
            found = next(self._ahead)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is, as plain numbers. Batches that wait in workers do not count."""
        return self._order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a saved stream was.

        Raises:
            CheckpointError: it was of other images, seed, batch size or number of processes.
        """
        self._order.load_state_dict(state)


def eval_files(
    files: ImageFiles,
    batch_size: int = 64,
    *,
    noise: bool = False,
    seed: int = 1111,
    channels_last: bool = False,
    device: torch.device | str = "cpu",
    workers: int | None = None,
) -> Iterator[Batch]:
    """Every image once, in a seeded order: the published one for ImageNet under the published seed.

    The middle of the image: 224 of 256 (published), other sizes in proportion.

    Args:
        noise: add Gaussian noise to the pixels (published: std 0.18 of the range for ImageNet).
    """
    if batch_size < 1 or seed < 0:
        raise OptionError(f"batches of {batch_size} with seed {seed}: sizes begin at 1, seeds at 0")
    device = torch.device(device)
    decoded = _Decoded(files, seed, augment=False, noise=noise)
    loader = _loader(decoded, device, workers, batch_size=batch_size, shuffle=True, seed=seed)
    return _batches(loader, device, channels_last)


class _Decoded(Dataset[Any]):
    """Images by (epoch, index), or by index alone where there is no augmentation."""

    def __init__(self, files: ImageFiles, seed: int, *, augment: bool, noise: bool = False) -> None:
        size, norm = files.image_size, files.norm
        self._files = files
        self._seed = seed
        self._augment = augment
        self._noise = noise
        if augment:
            steps = [
                transforms.RandomResizedCrop(size),
                transforms.RandomHorizontalFlip(),
                transforms.ColorJitter(**_JITTER),
            ]
        else:
            steps = [transforms.Resize(round(size * 256 / 224)), transforms.CenterCrop(size)]
        self._transform = transforms.Compose([*steps, transforms.ToTensor()])
        self._normalise = transforms.Normalize(norm.mean, norm.std, inplace=True)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, key: Any) -> Any:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        try:
            with quiet_decoding():
                image = open_image(self._files.source, str(self._files.names[index]))
        except OnnxGhnError as error:
            return error  # raised in the main process: DataLoader would print the worker's traceback into it
        pixels = self._random(image, epoch, index) if self._augment else self._transform(image)
        if self._noise:
            add_noise(pixels.numpy(), self._files.norm.noise_std, rng_for(self._seed, NOISE, index))
        return self._normalise(pixels), int(self._files.labels[index])

    def _random(self, image: Any, epoch: int, index: int) -> torch.Tensor:
        # torchvision draws from the global generator: lent to it, and put back as it was.
        generator = torch.default_generator
        before = generator.get_state()
        try:
            generator.manual_seed(int(rng_for(self._seed, AUGMENT, epoch, index).integers(2**63)))
            pixels: torch.Tensor = self._transform(image)
        finally:
            generator.set_state(before)
        return pixels


class _Rest(Sampler[list[tuple[int, int]]]):
    """What is left of the present epoch, batch by batch."""

    def __init__(self, order: BatchOrder) -> None:
        self._order = order

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self._order.epoch
        for step in range(self._order.step, (epoch + 1) * self._order.steps_per_epoch):
            yield [(epoch, index) for index in self._order.mine(step).tolist()]


def _loader(
    decoded: _Decoded, device: torch.device, workers: int | None, *, seed: int = 0, **options: Any
) -> DataLoader[Any]:
    if workers is not None and workers < 0:
        raise OptionError(f"{workers} workers: choose 0 or more")
    count = default_workers() if workers is None else workers
    return DataLoader(
        decoded,
        num_workers=count,
        persistent_workers=count > 0,
        pin_memory=device.type == "cuda",
        collate_fn=_collate,
        # Its own: DataLoader draws from the global one otherwise.
        generator=torch.Generator().manual_seed(seed),
        **options,
    )


def _collate(items: list[Any]) -> Any:
    for item in items:
        if isinstance(item, OnnxGhnError):
            return item
    images, labels = zip(*items, strict=True)
    return torch.stack(images), torch.from_numpy(np.array(labels, np.int64))


def _batches(loader: DataLoader[Any], device: torch.device, channels_last: bool) -> Iterator[Batch]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    iterator = iter(loader)
    try:
        for found in iterator:
            if isinstance(found, OnnxGhnError):
                # A new one: raising a local would keep this frame, and with it the workers, in a cycle.
                raise type(found)(str(found))
            images, labels = (tensor.to(device, non_blocking=True) for tensor in found)
            yield Batch(images.contiguous(memory_format=layout), labels)
    except Exception as error:
        # Now, since a traceback may hold the workers for long, and the garbage collector takes five seconds for each.
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()
            loader._iterator = None
        if not isinstance(error, RuntimeError) or "DataLoader worker" not in str(error):
            raise
        raise RuntimeFailure(
            f"a process that decodes images was lost ({error}); try fewer workers, memory may be short"
        ) from error
