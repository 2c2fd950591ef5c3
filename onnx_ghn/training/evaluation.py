"""Accuracy of networks that a GHN fills, one after the other; of an ONNX file; and their summary."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from onnx_ghn.deepnets1m import Architecture
from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.evaluate import Logits, accuracy, architecture_logits, batch_statistics_mode
from onnx_ghn.json_types import Json
from onnx_ghn.progress import Bar, no_bar
from onnx_ghn.training.evaluation_settings import Images, Networks
from onnx_ghn.training.file_evaluation import Row, measured
from onnx_ghn.training.nets.networks import Choice, choose, make_module, n_nets
from onnx_ghn.training.results import ResultsFile
from onnx_ghn.training.weights import kaiming_, load_tensors, predict_architecture, predict_net
from onnx_ghn.vision import Batch, eval_batches, load_dataset

if TYPE_CHECKING:
    from torch import Tensor

    from onnx_ghn.ghn import GHN

__all__ = ["Judge", "evaluate_networks"]


class Judge:
    """Measures classifiers on the same images."""

    def __init__(self, config: Images) -> None:
        self._config = config
        self._images = load_dataset(config.dataset, config.data_dir, config.images, download=config.download)
        self.n_classes = len(self._images.classes)

    def measure(self, logits: Logits) -> Row:
        """Accuracies in percent: top1, top5 and n_images; noisy_top1 and noisy_top5 where noise is wanted."""
        return measured(self._config, lambda noisy: accuracy(logits, self._batches(noisy)))

    def _batches(self, noisy: bool) -> Iterable[Batch]:
        size, limit = self._config.batch_size, self._config.n_images
        found = eval_batches(self._images, size, noise=noisy, resize_to=self._config.image_size, channels_last=True)
        return itertools.islice(found, None if limit is None else -(-limit // size))


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
    if ghn is not None and networks.first_class >= ghn.config.num_classes:
        raise OptionError(f"`first_class` {networks.first_class}: the GHN has {ghn.config.num_classes} classes")
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


def _evaluate(choice: Choice, ghn: GHN | None, networks: Networks, images: Images, judge: Judge, device: str) -> Row:
    first = networks.first_class
    n_classes = first + judge.n_classes  # the rows of classes before the data set's are there, and not asked
    if isinstance(choice.net, Architecture):
        tensors = _tensors(choice, choice.net, ghn, networks, images, n_classes)
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        logits = architecture_logits(choice.net, tensors, large_images=images.large, bfloat16=networks.amp)
        return judge.measure(lambda batch: logits(batch.to(device))[:, first:])
    module = make_module(choice, n_classes, small_images=not images.large)
    if ghn is None:
        kaiming_(module, networks.seed)
    else:
        size = images.image_size or (224 if images.large else 32)
        load_tensors(module, predict_net(ghn, choice.net, module, n_classes, size))
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
