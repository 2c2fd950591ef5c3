"""Accuracy of a classifier from the scores that it gives, as arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import RuntimeFailure

__all__ = ["Accuracy", "accuracy_of"]

Images = TypeVar("Images")
_TOP = 5


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Shares of right answers, in percent. `top5` is over all classes where there are five or fewer, so 100."""

    top1: float
    top5: float
    n_images: int


def accuracy_of(
    scores: Callable[[Images], Array],
    batches: Iterable[tuple[Images, Array]],
    progress: Callable[[int], None] | None = None,
) -> Accuracy:
    """Run a classifier over batches.

    Args:
        scores: (B, 3, H, W) images -> (B, classes). Answers that are not finite count as wrong.
        batches: images and their labels, (B,).
        progress: told of each batch's images.

    Raises:
        RuntimeFailure: no images, or more classes in the data than the classifier has.
    """
    first = within = count = 0
    for images, labels in batches:
        found = scores(images)  # (B, classes)
        if found.ndim != 2 or int(labels.max()) >= found.shape[1]:
            raise RuntimeFailure(
                f"the classifier gives {found.shape} for images of classes up to {int(labels.max())}; "
                "evaluate on the data set that it is for"
            )
        finite: Array = np.asarray(np.isfinite(found).all(axis=1))  # (B,)
        order = np.argsort(-np.nan_to_num(found), axis=1, kind="stable")[:, :_TOP]  # (B, 5)
        hits: Array = np.equal(order, labels[:, None]) & finite[:, None]
        first += int(hits[:, 0].sum())
        within += int(hits.any(axis=1).sum())
        count += len(labels)
        if progress is not None:
            progress(len(labels))
    if not count:
        raise RuntimeFailure("no images to evaluate on")
    return Accuracy(100 * first / count, 100 * within / count, count)
