"""The three parts of a task's data: trained on, chosen by, judged on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["DataAbsentError", "Part", "Splits", "split", "splits_of"]

_SPLIT_SEED = 20261127  # of all splits: which sample lies in which part never depends on the seed of a run


class DataAbsentError(Exception):
    """A data set is not there: the message says what is missing, and where it was looked for."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Samples and their targets, along the first axis of both."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: str) -> Part:
        """The same on a device."""
        return Part(self.inputs.to(device), self.targets.to(device))


@dataclasses.dataclass(frozen=True)
class Splits:
    """Disjoint parts: what is trained on, what the rate is chosen by, what is judged."""

    train: Part
    choose: Part
    judge: Part

    def to(self, device: str) -> Splits:
        """The same on a device."""
        return Splits(self.train.to(device), self.choose.to(device), self.judge.to(device))


def split(n: int, n_choose: int, n_judge: int, labels: Sequence[int] | None = None) -> tuple[np.ndarray, ...]:
    """Indices of the three parts of `n` samples, in a fixed random order.

    Args:
        labels: of the samples; with them, each part has its share of each class.

    Returns:
        (train, choose, judge), which together are all indices, each once.
    """
    order = np.random.default_rng(_SPLIT_SEED).permutation(n)
    if labels is not None:  # deal the samples of a class out evenly: sort by the rank within the class
        of_class = np.asarray(labels)[order]
        rank = np.empty(n)
        for label in np.unique(of_class):
            places = np.flatnonzero(of_class == label)
            rank[places] = (np.arange(len(places)) + 0.5) / len(places)
        order = order[np.argsort(rank, kind="stable")]
    return order[n_choose + n_judge :], order[:n_choose], order[n_choose : n_choose + n_judge]


def splits_of(inputs: Tensor, targets: Tensor, n_choose: int, n_judge: int, *, by_class: bool) -> Splits:
    """The three parts of all samples."""
    labels = targets.tolist() if by_class else None
    indices = split(len(inputs), n_choose, n_judge, labels)
    return Splits(*(Part(inputs[torch.from_numpy(i)], targets[torch.from_numpy(i)]) for i in indices))
