"""Batches of images that worker processes decode from their files when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FileStream", "eval_files"]

#: The epoch and the index of an image.
Key = tuple[int, int]
#: An image and its label, or the error that took their place: DataLoader would print a worker's traceback into it.
Item = tuple[torch.Tensor, int] | OnnxGhnError
Collated = tuple[torch.Tensor, torch.Tensor] | OnnxGhnError

# As published: a fifth for the hue, two fifths for everything else.
_JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2}


class FileStream:
    """An endless stream of training batches. Like those of `BatchStream`, each depends only on the seed and the step.

    The augmentation is the published one: a random part of the image scaled to the crop's size, random mirroring and
    colour jitter.

    Args:
        files: the images.
        workers: the number of processes that decode; by default one for each core, and eight at most. With 0, this
            process decodes.
        device: where the batches go. For CUDA they are put in pinned memory first.
        batch_size, seed, augment, rank, world, drop_last, channels_last: as for `BatchStream`.
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
            _Decoded(files, seed, augment=augment), self._device, workers, batch_sampler=_RestOfEpoch(self._order)
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
        """The epoch that the next batch belongs to."""
        return self._order.epoch

    def __iter__(self) -> Iterator[Batch]:
        """The remaining batches of the present epoch; after its last batch, those of the next epoch."""
        for batch in _batches(self._loader, self._device, self._channels_last):
            self._order.step += 1
            yield batch

    def batch(self, step: int) -> Batch:
        """The batch of a step. Steps in order are decoded ahead; any other step makes the workers start anew."""
        if self._ahead is None or step != self._order.step:
            self._order.step = step
            self._ahead = iter(self)
        batch = next(self._ahead, None)
        if batch is None:  # the epoch is over
            self._ahead = iter(self)
            batch = next(self._ahead)
        return batch

    def state_dict(self) -> dict[str, int]:
        """The state of the stream, as plain numbers. Batches that wait in workers do not count as used."""
        return self._order.state_dict()

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue where a saved stream was.

        Raises:
            CheckpointError: it was a stream of other images, or with another seed, batch size or number of processes.
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
    """Iterate over every image once, in a seeded order: for ImageNet and the published seed, the published order.

    Images are cropped to their middle: 224 of 256 pixels as published, other sizes in proportion.

    Args:
        noise: add Gaussian noise to the pixels (published: a std of 0.18 of the range for ImageNet).
    """
    if batch_size < 1 or seed < 0:
        raise OptionError(f"batches of {batch_size} with seed {seed}: `batch_size` begins at 1, `seed` at 0")
    device = torch.device(device)
    decoded = _Decoded(files, seed, augment=False, noise=noise)
    loader = _loader(decoded, device, workers, batch_size=batch_size, seed=seed)
    return _batches(loader, device, channels_last)


class _Decoded(Dataset[Item]):
    """Decodes images by (epoch, index), or by index alone where there is no augmentation."""

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

    def __getitem__(self, key: int | Key) -> Item:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        try:
            with quiet_decoding():
                image = open_image(self._files.source, str(self._files.names[index]))
        except OnnxGhnError as error:
            return error  # the main process raises it
        pixels = self._random(image, epoch, index) if self._augment else self._transform(image)
        if self._noise:
            add_noise(pixels.numpy(), self._files.norm.noise_std, rng_for(self._seed, NOISE, index))
        return self._normalise(pixels), int(self._files.labels[index])

    def _random(self, image: Image.Image, epoch: int, index: int) -> torch.Tensor:
        # torchvision draws from the global generator, whose state is restored afterwards.
        generator = torch.default_generator
        before = generator.get_state()
        try:
            generator.manual_seed(int(rng_for(self._seed, AUGMENT, epoch, index).integers(2**63)))
            pixels: torch.Tensor = self._transform(image)
        finally:
            generator.set_state(before)
        return pixels


class _RestOfEpoch(Sampler[list[Key]]):
    """The remaining images of the present epoch, batch by batch."""

    def __init__(self, order: BatchOrder) -> None:
        self._order = order

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self._order.epoch
        for step in range(self._order.step, (epoch + 1) * self._order.steps_per_epoch):
            yield [(epoch, index) for index in self._order.mine(step).tolist()]


def _loader(
    decoded: _Decoded,
    device: torch.device,
    workers: int | None,
    *,
    batch_size: int = 1,
    batch_sampler: _RestOfEpoch | None = None,
    seed: int = 0,
) -> DataLoader[Item]:
    """A loader of the sampler's batches, or else of shuffled batches of `batch_size`."""
    if workers is not None and workers < 0:
        raise OptionError(f"`workers` is {workers}; choose 0 or more workers")
    count = default_workers() if workers is None else workers
    return DataLoader(
        decoded,
        num_workers=count,
        persistent_workers=count > 0,
        pin_memory=device.type == "cuda",
        collate_fn=_collate,
        # Without a generator of its own, DataLoader draws from the global one.
        generator=torch.Generator().manual_seed(seed),
        batch_size=batch_size,
        shuffle=batch_sampler is None,
        batch_sampler=batch_sampler,
    )


def _collate(items: list[Item]) -> Collated:
    images, labels = [], []
    for item in items:
        if isinstance(item, OnnxGhnError):
            return item
        images.append(item[0])
        labels.append(item[1])
    return torch.stack(images), torch.from_numpy(np.array(labels, np.int64))


def _batches(loader: DataLoader[Item], device: torch.device, channels_last: bool) -> Iterator[Batch]:
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    iterator = iter(loader)
    try:
        collated: Collated
        for collated in iterator:
            if isinstance(collated, OnnxGhnError):
                # A new error is raised: a local one would keep this frame, and with it the workers, in a cycle.
                raise type(collated)(str(collated))
            images, labels = (tensor.to(device, non_blocking=True) for tensor in collated)
            yield Batch(images.contiguous(memory_format=memory_format), labels)
    except Exception as error:
        # Workers are stopped here: a traceback may hold them for long, and the garbage collector needs five seconds
        # for each of them.
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()
            loader._iterator = None
        if not isinstance(error, RuntimeError) or "DataLoader worker" not in str(error):
            raise
        raise RuntimeFailure(
            f"a process that decodes images was lost ({error}); memory may be short: set `workers` lower"
        ) from error
