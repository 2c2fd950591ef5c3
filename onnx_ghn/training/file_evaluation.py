"""Accuracy of an ONNX file on a data set. No torch, unless its backend or large images ask for it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.arrays import Array
from onnx_ghn.errors import counted
from onnx_ghn.evaluate import Accuracy, accuracy_of, onnx_scores
from onnx_ghn.evaluate.onnx_files import Scores, Statistics
from onnx_ghn.training.evaluation_settings import Images, ModelConfig
from onnx_ghn.vision.arrays import eval_arrays
from onnx_ghn.vision.loading import load_dataset
from onnx_ghn.vision.sets import ImageFiles, ImageSet

__all__ = ["Row", "evaluate_model", "limited", "measured"]

logger = logging.getLogger(__name__)

Row = dict[str, Any]


def evaluate_model(
    path: str | os.PathLike[str],
    images: Images,
    config: ModelConfig,
    device: str | None = None,
    threads: int | None = None,
) -> list[Row]:
    """Accuracy of an ONNX file, as one row.

    Args:
        device: cpu or cuda; cuda where there is one and None is given.
        threads: of onnxruntime, on the CPU; as many as there are cores, unless told. torch has its own.

    Raises:
        OptionError, DataError, ModelReadError, RuntimeFailure: see `evaluate.onnx_scores`, and unreadable images.
    """
    data = load_dataset(images.dataset, images.data_dir, images.images, download=images.download)
    statistics = config.statistics or "stored"
    with contextlib.ExitStack() as stack:
        if config.backend == "torch":
            scores = stack.enter_context(_torch_scores(path, statistics=statistics, device=device))
        else:
            scores = stack.enter_context(onnx_scores(path, statistics=statistics, device=device, threads=threads))
        scores = _told_of_classes(scores, os.fspath(path), len(data.classes), data.name)
        found = measured(images, lambda noise: accuracy_of(scores, _batches(data, images, noise)))
        return [{"name": Path(path).name, **found}]


def _told_of_classes(scores: Scores, path: str, n_classes: int, name: str) -> Scores:
    """The same scores, with a warning at the first ones where there are more of them than the data set has classes."""
    is_told = False

    def watched(images: Array) -> Array:
        nonlocal is_told
        found = scores(images)
        if not is_told and found.ndim == 2 and found.shape[1] > n_classes:
            is_told = True
            logger.warning(
                "%s: it gives %s, and %s has %s: its first ones are taken for these, in the order of their names",
                path, counted(found.shape[1], "score"), name, counted(n_classes, "class", "classes"),
            )  # fmt: skip
        return found

    return watched


def limited(batches: Iterable[tuple[Any, Any]], n: int | None) -> Iterator[tuple[Any, Any]]:
    """The first n images and labels of batches, or all of them; the last batch may be cut."""
    for images, labels in batches:
        yield images[:n], labels[:n]
        if n is not None:
            n -= min(n, len(labels))
            if not n:
                return


@contextlib.contextmanager
def _torch_scores(path: str | os.PathLike[str], *, statistics: Statistics, device: str | None) -> Iterator[Scores]:
    """As `onnx_scores`, by torch."""
    import torch

    from onnx_ghn.evaluate import onnx_logits

    def scores(images: Array) -> Array:
        with torch.no_grad():
            found: Array = logits(torch.from_numpy(images)).float().cpu().numpy()  # (B, classes)
        return found

    with onnx_logits(path, statistics=statistics, backend="torch", device=device) as logits:
        yield scores


def measured(images: Images, judged: Callable[[bool], Accuracy]) -> Row:
    """Accuracies in percent: top1, top5 and n_images; noisy_top1 and noisy_top5 where noise is wanted.

    Args:
        judged: measures, with noise or without.
    """
    found: Row = {}
    for prefix, noisy in (("", False), ("noisy_", True))[: 1 + images.noise]:
        one = judged(noisy)
        found |= {f"{prefix}top1": round(one.top1, 4), f"{prefix}top5": round(one.top5, 4)}
        if not noisy:
            found["n_images"] = one.n_images
    return found


def _batches(
    data: ImageSet | ImageFiles, images: Images, noise: bool
) -> Iterable[tuple[npt.NDArray[np.float32], Array]]:
    found: Iterable[tuple[npt.NDArray[np.float32], Array]]
    size = images.batch_size
    if isinstance(data, ImageSet):
        found = eval_arrays(data, size, noise=noise, resize_to=images.image_size)
    else:
        from onnx_ghn.vision import eval_batches  # decodes side by side, by torch

        batches = eval_batches(data, size, noise=noise, resize_to=images.image_size)
        found = ((batch.images.numpy(), batch.labels.numpy()) for batch in batches)
    return limited(found, images.n_images)
