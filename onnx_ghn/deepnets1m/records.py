"""What every file of architectures has, whichever its format: the official one or our compact one."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.symbolic import symbolic_graph
from onnx_ghn.errors import OptionError
from onnx_ghn.graph.model import ComputationGraph

__all__ = ["DeepNetsFile", "Record", "as_evaluated", "whole_number"]

_LARGEST = 1 << 62


class Record(NamedTuple):
    """An architecture as a file has it, and counts that choose batches and widths without a graph."""

    architecture: Architecture
    n_nodes: int
    n_params: int  # trainable elements for 32 × 32 images, at the file's own width and 10 classes
    n_params_large: int  # for 224 × 224 images


def whole_number(value: object) -> int:
    """A count of a file. Raises ValueError: it is none (a text, a fraction, infinite, negative), or beyond any."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:
        raise ValueError(f"{value!r:.40} is no count")
    if value != int(value):
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def as_evaluated(architecture: Architecture, split: str, *, large_images: bool = False) -> Architecture:
    """An architecture at the width at which the published code evaluates its split: nets of `wide` are built four times
    as wide as they are sampled and stored, for 224 × 224 images twice (ppuda/deepnets1m/loader.py).
    """
    if split != "wide":
        return architecture
    return architecture.replace(C=architecture.C * (2 if large_images else 4))


class DeepNetsFile(abc.ABC):
    """Architectures by split and index. `open_deepnets` opens one. It may be handed to other processes.

    Attributes:
        path: the file's path.
        splits: the splits that the file holds.
    """

    path: str
    splits: tuple[str, ...]

    def __len__(self) -> int:
        """Architectures in all splits."""
        return sum(self.count(split) for split in self.splits)

    @abc.abstractmethod
    def count(self, split: str) -> int:
        """Architectures in a split. Raises OptionError: no such split."""

    @abc.abstractmethod
    def record(self, split: str, index: int) -> Record:
        """What the file says of an architecture. Raises OptionError: no such index. Raises DataError: damaged."""

    @abc.abstractmethod
    def n_nodes(self, split: str) -> npt.NDArray[np.int64]:
        """Nodes of each architecture of a split. Raises DataError: damaged."""

    def close(self) -> None:
        """Close the file where it is kept open; the next access opens it again."""
        return None

    def records(self, split: str) -> Iterator[Record]:
        """All of a split in order."""
        for index in range(self.count(split)):
            yield self.record(split, index)

    def architecture(self, split: str, index: int, *, large_images: bool = False) -> Architecture:
        """An architecture at the width at which the published code evaluates it: see `as_evaluated`."""
        return as_evaluated(self.record(split, index).architecture, split, large_images=large_images)

    def graph(self, split: str, index: int, num_classes: int = 10, *, large_images: bool = False) -> ComputationGraph:
        """The graph of `architecture(split, index)`. Raises DataError: damaged."""
        architecture = self.architecture(split, index, large_images=large_images)
        return symbolic_graph(architecture, num_classes, large_images=large_images)

    def _check_split(self, split: str) -> None:
        if split not in self.splits:
            raise OptionError(f"{self.path}: no split {split!r}; there are {', '.join(self.splits)}")

    def _check_index(self, split: str, index: int) -> None:
        if not 0 <= index < self.count(split):
            raise OptionError(
                f"{self.path}: no architecture {index} in split {split}; there are 0 to {self.count(split) - 1}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
