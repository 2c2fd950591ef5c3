"""The training of a network from its settings: its trainer, and how it is judged."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from onnx_ghn.deepnets1m import Architecture
from onnx_ghn.errors import OptionError
from onnx_ghn.evaluate import accuracy, batch_statistics_mode
from onnx_ghn.json_types import Json
from onnx_ghn.settings import values
from onnx_ghn.training.logs import Report
from onnx_ghn.training.nets.settings import NetSettings, NetTraining
from onnx_ghn.training.nets.starting_net import chosen, make_net, starting_ghn
from onnx_ghn.training.nets.trainer import NetTrainConfig, NetTrainer
from onnx_ghn.training.weights import perturb_
from onnx_ghn.vision import ImageFiles, ImageSet, eval_batches, few_shot, load_dataset, train_stream

__all__ = ["NetRun"]

_JUDGED_TOGETHER = 64
_LARGE = 64  # networks for images beyond this size get small images scaled up


class NetRun:
    """The training of a network.

    Attributes:
        trainer: its trainer.
        name: of the network.
        origin: what the weights to start from are.
        resumed: it goes on with the run that is in the folder.

    Args:
        settings: the images, the network and the way to train it.
        folder: of the log, the state, the trained weights and the result.
        device: to train on.

    Raises:
        OnnxGhnError: images, a network or weights that cannot be read, or settings that make no sense.
    """

    def __init__(self, settings: NetSettings, folder: Path, device: torch.device | str) -> None:
        self._settings = settings
        # As published: all training images where the test images judge.
        part: Literal["train", "trainval"] = "train" if settings.images == "val" else "trainval"
        images = load_dataset(settings.dataset, settings.data_dir, part, download=settings.download)
        if settings.n_shots:
            images = few_shot(images, settings.n_shots)  # type: ignore[type-var]  # of the same kind as it is given
        stream = train_stream(
            images,
            settings.batch_size,
            seed=settings.seed,
            cutout=settings.cutout_length if settings.cutout else 0,
            resize_to=self._resize_to(images),
            channels_last=True,
        )
        net, self.name, self.origin = _starting_net(settings, len(images.classes))
        net = net.to(device)
        net = net.to(memory_format=torch.channels_last)
        config = NetTrainConfig(
            **values(settings, NetTraining),
            steps_per_epoch=stream.steps_per_epoch,
            label_smoothing=0.1 if settings.dataset == "imagenet" else 0.0,
        )
        data = {"batch_size": settings.batch_size, "images": len(images), "imsize": settings.imsize}
        data["cutout_length"] = settings.cutout_length if settings.cutout else 0
        self.trainer = NetTrainer(net, stream, config, folder, self.origin, data)
        self.resumed = self.trainer.resume()

    def run(self, report: Report | None = None, until: int | None = None) -> Json:
        """Train to the last step (or `until`), and judge; after the last step, result.json of the folder says it, too.

        Args:
            report: is called after each step.
            until: stop after this step for now.

        Returns:
            name, init, step, train (the figures of the last steps), and accuracies in percent.
        """
        trainer = self.trainer
        figures = trainer.run(report, until)
        told = {"name": self.name, "init": self.origin, "step": trainer.step, "train": figures}
        return trainer.tell({**told, **self.judge()})

    def judge(self) -> dict[str, float]:
        """Accuracies in percent: with running statistics after training, with those of the batch without it."""
        settings, net = self._settings, self.trainer.net
        images = load_dataset(settings.dataset, settings.data_dir, settings.images, download=settings.download)
        device = next(net.parameters()).device
        accuracies: dict[str, float] = {}
        for prefix, is_noisy in (("", False), ("noisy_", True))[: 1 + settings.noise]:
            batches = eval_batches(
                images, _JUDGED_TOGETHER, noise=is_noisy, resize_to=self._resize_to(images), channels_last=True
            )
            with contextlib.nullcontext(net.eval()) if settings.epochs else batch_statistics_mode(net) as logits:
                judged = accuracy(functools.partial(_logits, logits, device), batches)
            accuracies |= {f"{prefix}top1": judged.top1, f"{prefix}top5": judged.top5}
        return accuracies

    def _resize_to(self, images: ImageSet | ImageFiles) -> int | None:
        """Small images are scaled up for a network that is made for large ones."""
        if not isinstance(images, ImageSet):
            return None
        return self._settings.imsize if self._settings.imsize > _LARGE > images.images.shape[1] else None


def _starting_net(settings: NetSettings, num_classes: int) -> tuple[nn.Module, str, str]:
    """The network with the weights to start from, its name, and what those weights are."""
    ghn = starting_ghn(settings)
    choice = chosen(settings)
    if settings.auxiliary and not isinstance(choice.net, Architecture):
        raise OptionError(f"`auxiliary`: {choice.name} is of torchvision; DeepNets-1M networks have such classifiers")
    extra = {"auxiliary": True} if settings.auxiliary else {}
    net, origin = make_net(settings, choice, ghn, num_classes, settings.seed, **extra)
    if settings.beta:
        perturb_(net, "noise", settings.beta, settings.seed)
        origin += f", with noise of {settings.beta:g}"
    return net, choice.name, origin


def _logits(net: Callable[[Tensor], Tensor], device: torch.device, images: Tensor) -> Tensor:
    return net(images.to(device))
