"""Batches of images that worker processes decode from their files when they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Unpack

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
from onnx_ghn.vision.streams import Batch, EvalOptions, Stream, StreamOptions

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


class FileStream(Stream):
    """A stream of images that are decoded from their files when they are needed.

    The augmentation is the published one: a random part of the image scaled to the crop's size, random mirroring and
    colour jitter.

    Args:
        files: the images.
        workers: the number of processes that decode; by default one for each core, and eight at most. With 0, this
            process decodes.
        batch_size, options: see `Stream`. For CUDA, batches are put in pinned memory first.
    """

    def __init__(
        self,
        files: ImageFiles,
        batch_size: int = 64,
        *,
        workers: int | None = None,
        **options: Unpack[StreamOptions],
    ) -> None:
        super().__init__(len(files), batch_size, **options)
        self._rest = _RestOfEpoch(self._order)
        decoded = _Decoded(files, self._order.seed, augment=self._augment)
        self._loader = _loader(decoded, self._device, workers, batch_sampler=self._rest)
        self._ahead: Iterator[Batch] = iter(())

    def batch(self, step: int) -> Batch:
        """The batch of any step. Steps in order are decoded ahead; any other step makes the workers start anew."""
        batch = next(self._ahead, None) if step == self._rest.step else None
        if batch is None:  # the epoch is over, or another step was expected
            self._rest.step = step
            self._ahead = _batches(self._loader, self._device, self._channels_last)
            batch = next(self._ahead)
        self._rest.step = step + 1
        return batch


def eval_files(files: ImageFiles, options: EvalOptions, workers: int | None = None) -> Iterator[Batch]:
    """Iterate over every image once, in a seeded order: for ImageNet and the published seed, the published order.

    Images are cropped to their middle: 224 of 256 pixels as published, other sizes in proportion. The noise has the
    published std of 0.18 of the range for ImageNet.
    """
    decoded = _Decoded(files, options.seed, augment=False, noise=options.noise)
    loader = _loader(decoded, options.device, workers, batch_size=options.batch_size, seed=options.seed)
    return _batches(loader, options.device, options.channels_last)


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
    """The images of `step` and the later steps of its epoch, batch by batch."""

    def __init__(self, order: BatchOrder) -> None:
        self._order = order
        self.step = order.step

    def __iter__(self) -> Iterator[list[Key]]:
        steps = self._order.steps_per_epoch
        epoch = self.step // steps
        for step in range(self.step, (epoch + 1) * steps):
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
