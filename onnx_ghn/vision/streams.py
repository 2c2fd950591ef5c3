"""Endless streams of training batches, wherever their pixels come from."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypedDict

import torch

from onnx_ghn.vision.order import BatchOrder

__all__ = ["Batch", "EvalOptions", "Stream", "StreamOptions"]


class Batch(NamedTuple):
    images: torch.Tensor  # (B, 3, H, W) float32, normalised
    labels: torch.Tensor  # (B,) int64


class StreamOptions(TypedDict, total=False):
    """Options of every stream: see `Stream`."""

    seed: int
    augment: bool
    rank: int
    world: int
    drop_last: bool
    channels_last: bool
    device: torch.device | str


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """How every evaluation makes its batches: see `batches.eval_batches`."""

    batch_size: int
    noise: bool
    seed: int
    channels_last: bool
    device: torch.device


class Stream(abc.ABC):
    """An endless stream of training batches. Each depends only on the seed and the step (and on `rank` of `world`).

        for images, labels in stream:  # the rest of the epoch that the stream is in
            ...

    Args:
        count: the number of images.
        batch_size: the number of images in a batch of this process.
        seed: the seed of order and augmentation.
        augment: change the images at random, as published for their kind.
        rank, world: the number of this process, and of all processes. Together they see the batches of one process with
            `world` times the batch size.
        drop_last: leave out the last batch of an epoch where it is smaller; the published code does not.
        channels_last: memory format of the images. PyTorch's convolutions on CPUs are several times faster with it.
        device: where the batches go.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int = 1111,
        augment: bool = True,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = False,
        channels_last: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self._order = BatchOrder(count, batch_size, seed, rank, world, drop_last)
        self._augment = augment
        self._channels_last = channels_last
        self._device = torch.device(device)

    @property
    def steps_per_epoch(self) -> int:
        return self._order.steps_per_epoch

    @property
    def batch_size(self) -> int:
        return self._order.batch_size

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
        end = (self.epoch + 1) * self.steps_per_epoch
        while self.step < end:
            yield next(self)

    def __next__(self) -> Batch:
        batch = self.batch(self.step)
        self._order.step += 1
        return batch

    @abc.abstractmethod
    def batch(self, step: int) -> Batch:
        """The batch of any step. The stream does not move."""

    def state_dict(self) -> dict[str, int]:
        """The state of the stream, as plain numbers. Batches that are made ahead do not count as used."""
        return self._order.state_dict()

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue where a saved stream was.

        Raises:
            CheckpointError: it was a stream of other images, or with another seed, batch size or number of processes.
        """
        self._order.load_state_dict(state)
