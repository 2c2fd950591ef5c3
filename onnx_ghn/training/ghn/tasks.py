"""Which data set each network of a step learns from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from onnx_ghn.training.classifiers import ImageSource
from onnx_ghn.training.ghn.architectures import ArchitectureStream, Net

__all__ = ["Task", "draw_tasks"]

_STREAM = 1  # tells these draws from those of the networks, which have the same seed


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set: its images, and networks for its classes."""

    nets: ArchitectureStream
    images: ImageSource


def draw_tasks(
    first: Task, further: Sequence[Task], share: float, step: int, size: int
) -> list[tuple[Net, ImageSource]]:
    """The networks of a step and their images, from the number of the step alone.

    Args:
        first: the data set of all networks but a share of them.
        further: data sets that share the rest evenly.
        share: of the networks, from 0 to 1.
        step: number of the meta-batch.
        size: networks in it.
    """
    if not further:
        return [(net, first.images) for net in first.nets.meta_batch(step, size)]
    rng = np.random.default_rng([first.nets.seed, step, 0, _STREAM])
    tasks = [first, *further]
    chosen = [1 + int(rng.integers(len(further))) if rng.random() < share else 0 for _ in range(size)]
    drawn = [iter(task.nets.meta_batch(step, n) if (n := chosen.count(i)) else ()) for i, task in enumerate(tasks)]
    return [(next(drawn[i]), tasks[i].images) for i in chosen]
