"""Accuracy of networks that a GHN fills, one after the other; of an ONNX file; and their summary."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from onnx_ghn.deepnets1m import Architecture
from onnx_ghn.errors import GraphError, OptionError, counted
from onnx_ghn.evaluate import Logits, accuracy, architecture_logits, batch_statistics_mode
from onnx_ghn.json_types import Json
from onnx_ghn.progress import Bar, no_bar
from onnx_ghn.training.bfloat16 import warn_where_slower
from onnx_ghn.training.evaluation_settings import Images, Networks
from onnx_ghn.training.file_evaluation import Row, limited, measured
from onnx_ghn.training.nets.networks import Choice, choose, make_module, n_nets
from onnx_ghn.training.results import ResultsFile
from onnx_ghn.training.weights import kaiming_, load_tensors, predict_architecture, predict_module
from onnx_ghn.vision import Batch, eval_batches, load_dataset

if TYPE_CHECKING:
    from torch import Tensor

    from onnx_ghn.ghn import GHN, GHNConfig

__all__ = ["Judge", "evaluate_networks"]

logger = logging.getLogger(__name__)


class Judge:
    """Measures classifiers on the same images."""

    def __init__(self, config: Images) -> None:
        self._config = config
        self._images = load_dataset(config.dataset, config.data_dir, config.images, download=config.download)
        self.n_classes, self.name = len(self._images.classes), self._images.name

    def measure(self, logits: Logits) -> Row:
        """Accuracies in percent: top1, top5 and n_images; noisy_top1 and noisy_top5 where noise is wanted."""
        return measured(self._config, lambda noisy: accuracy(logits, self._batches(noisy)))

    def _batches(self, noisy: bool) -> Iterable[Batch]:
        config = self._config
        found = eval_batches(
            self._images, config.batch_size, noise=noisy, resize_to=config.image_size, channels_last=True
        )
        return itertools.starmap(Batch, limited(found, config.n_images))


def evaluate_networks(
    networks: Networks,
    images: Images,
    ghn: GHN | None,
    *,
    device: str = "cpu",
    results: str | os.PathLike[str] | None = None,
    bar: Bar = no_bar,
) -> list[Row]:
    """Accuracy of each network, its batch norms on the statistics of each batch, as published.

    Args:
        ghn: that fills them; None for random weights (Kaiming).
        results: a file of JSON lines that a run which was stopped goes on with.

    Returns:
        One row a network: name, top1, top5, n_images, or `error` for one of several whose graph cannot be built.

    Raises:
        OptionError, DataError: no such networks or images, or a file of results of other settings.
        GraphError: the graph of the only network cannot be built.
    """
    judge = Judge(images)
    if networks.amp:
        warn_where_slower(torch.device(device))
    if ghn is not None:
        _check_classes(ghn.config, networks.first_class, judge)
    chosen = choose(
        networks.split, n=networks.count, large_images=images.large, arch=networks.arch, file=networks.file,
        seed=networks.seed, width=networks.width,
    )  # fmt: skip
    total = n_nets(networks.split, networks.arch, networks.count, networks.file)
    settings = _settings(networks, images, ghn if results else None)
    rows = []
    figures = ("top1", "top5", "noisy_top1", "noisy_top5")[: 4 if images.noise else 2]
    with ResultsFile(results, settings, figures) as file, bar("networks", total) as advance:
        for choice in chosen:
            if choice.name not in file.records:
                try:
                    record = _evaluate(choice, ghn, networks, images, judge, device)
                except GraphError as error:  # one network of many: told in its row
                    if total == 1:
                        raise
                    record = {"error": str(error)}
                file.add(choice.name, record)
            rows.append({"name": choice.name, **file.records[choice.name]})
            advance(1)
    return rows


def _check_classes(config: GHNConfig, first: int, judge: Judge) -> None:
    """Refuse rows that the GHN does not decode, and say where it learned other classes. Raises OptionError."""
    known, classes = config.num_classes, counted(judge.n_classes, "class", "classes")
    if first >= known:
        raise OptionError(f"`first_class` {first}: the GHN has {known} classes")
    if first + judge.n_classes > known:
        behind = f" behind the first {first}" if first else ""
        raise OptionError(
            f"`dataset`: {judge.name} has {classes}, and the GHN {known - first}{behind}; take data or a GHN of as many"
        )
    if not first and not config.knows_classes(judge.n_classes):
        logger.warning(
            "%s has %s, and the GHN %d: its first ones are taken for these, in the order of their names",
            judge.name, classes, known,
        )  # fmt: skip


def _evaluate(choice: Choice, ghn: GHN | None, networks: Networks, images: Images, judge: Judge, device: str) -> Row:
    first = networks.first_class
    n_classes = first + judge.n_classes  # the rows of classes before the data set's are there, and not asked
    if isinstance(choice.net, Architecture):
        tensors = _tensors(choice, choice.net, ghn, networks, images, n_classes)
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        logits = architecture_logits(choice.net, tensors, large_images=images.large, bfloat16=networks.amp)
        return judge.measure(lambda batch: logits(batch.to(device))[:, first:])
    torch.manual_seed(networks.seed)  # of what no GHN predicts
    module = make_module(choice, n_classes, small_images=not images.large)
    if ghn is None:
        kaiming_(module, networks.seed)
    else:
        size = images.image_size or (224 if images.large else 32)
        load_tensors(module, predict_module(ghn, module, size))
    with batch_statistics_mode(module.to(device)) as run:
        return judge.measure(lambda batch: run(batch.to(device))[:, first:])


def _tensors(
    choice: Choice, architecture: Architecture, ghn: GHN | None, networks: Networks, images: Images, n_classes: int
) -> dict[str, Tensor]:
    """The weights of an architecture of DeepNets-1M, by parameter name."""
    if ghn is not None:
        return dict(predict_architecture(ghn, architecture, n_classes, large_images=images.large))
    module = kaiming_(make_module(choice, n_classes, small_images=not images.large), networks.seed)
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def _settings(networks: Networks, images: Images, ghn: GHN | None) -> Json:
    """What results depend on: of the GHN its weights, since a folder may come to hold others."""
    from onnx_ghn.ghn import fingerprint

    told = dataclasses.asdict(networks) | dataclasses.asdict(images)
    del told["count"], told["data_dir"], told["download"]
    if not networks.first_class:
        del told["first_class"]  # so that runs go on which began before there was a choice
    return told | ({"ghn": fingerprint(ghn)} if ghn is not None else {})
