"""All that the training of a network is made from, and how it is judged, as `onnx-ghn train-net` asks for it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from onnx_ghn.deepnets1m import Architecture
from onnx_ghn.errors import OptionError
from onnx_ghn.evaluate import accuracy, batch_statistics_mode
from onnx_ghn.training.nets.starting_net import StartingNet
from onnx_ghn.training.nets.trainer import NetTrainConfig, NetTrainer
from onnx_ghn.training.weights import perturb_
from onnx_ghn.vision import (
    BatchStream,
    FileStream,
    ImageFiles,
    ImageSet,
    eval_batches,
    few_shot,
    load_dataset,
    train_stream,
)

__all__ = ["NetRecipe", "NetRun"]

#: Published defaults of what the command leaves to the data set.
_IMAGENET = {"batch_size": 128, "epochs": 250, "lr": 0.1, "wd": 3e-5, "scheduler": "exponential", "imsize": 224}
_SMALL_IMAGES = {"batch_size": 96, "epochs": 600, "lr": 0.025, "wd": 3e-4, "scheduler": "cosine", "imsize": 32}
_JUDGED_TOGETHER = 64
_LARGE = 64  # networks for images beyond this size get small images scaled up


class NetRun(NamedTuple):
    """A trainer, and what it trains."""

    trainer: NetTrainer
    name: str  # of the network
    origin: str  # what the weights to start from are


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetRecipe(StartingNet):
    """The images, the network and the way to train it; its fields are the options of the command."""

    # Images.
    dataset: str  # cifar10, imagenet, or a folder or zip archive
    data_dir: str
    images: Literal["val", "test"]  # to judge on
    n_shots: int | None  # training images of each class
    cutout: bool  # blank a square of each training image
    cutout_length: int
    noise: bool  # judge on images with Gaussian noise, too
    # Weights to start from.
    beta: float  # add noise of this share of each tensor's spread
    auxiliary: bool  # train with an auxiliary classifier
    # Training, see `NetTrainConfig`.
    batch_size: int
    epochs: int
    opt: str
    lr: float
    wd: float
    grad_clip: float
    scheduler: str
    drop_path_prob: float
    auxiliary_weight: float
    amp: bool
    save_interval: int
    log_interval: int

    @classmethod
    def with_defaults(cls, dataset: str, **settings: Any) -> NetRecipe:
        """A recipe whose settings that are None are those published for the data set."""
        defaults = _IMAGENET if dataset == "imagenet" else _SMALL_IMAGES
        unset = {name: value for name, value in defaults.items() if settings.get(name) is None}
        return cls(dataset=dataset, **{**settings, **unset})

    def trainer(self, folder: Path, device: torch.device | str) -> NetRun:
        """Read the images and make the trainer.

        Raises:
            OnnxGhnError: images, a network or weights that cannot be read, or settings that make no sense.
        """
        stream, num_classes = self._training_images()
        net, name, origin = self._net(num_classes)
        net = net.to(device)
        net = net.to(memory_format=torch.channels_last)
        trainer = NetTrainer(net, stream, self._config(stream.steps_per_epoch), folder, origin)
        return NetRun(trainer, name, origin)

    def judge(self, net: nn.Module) -> dict[str, float]:
        """Accuracies in percent: with running statistics after training, with those of the batch without it."""
        images = load_dataset(self.dataset, self.data_dir, self.images)
        device = next(net.parameters()).device
        accuracies: dict[str, float] = {}
        for prefix, is_noisy in (("", False), ("noisy_", True))[: 1 + self.noise]:
            batches = eval_batches(
                images, _JUDGED_TOGETHER, noise=is_noisy, resize_to=self._resize_to(images), channels_last=True
            )
            if self.epochs:
                judged = accuracy(functools.partial(_logits, net.eval(), device), batches)
            else:
                with batch_statistics_mode(net) as run:
                    judged = accuracy(functools.partial(_logits, run, device), batches)
            accuracies |= {f"{prefix}top1": judged.top1, f"{prefix}top5": judged.top5}
        return accuracies

    def _training_images(self) -> tuple[BatchStream | FileStream, int]:
        # As published: all training images where the test images judge.
        images = load_dataset(self.dataset, self.data_dir, "train" if self.images == "val" else "trainval")
        if self.n_shots:
            images = few_shot(images, self.n_shots)  # type: ignore[type-var]  # of the same kind as it is given
        stream = train_stream(
            images,
            self.batch_size,
            seed=self.seed,
            cutout=self.cutout_length if self.cutout else 0,
            resize_to=self._resize_to(images),
            channels_last=True,
        )
        return stream, len(images.classes)

    def _resize_to(self, images: ImageSet | ImageFiles) -> int | None:
        """Small images are scaled up for a network that is made for large ones."""
        if not isinstance(images, ImageSet):
            return None
        return self.imsize if self.imsize > _LARGE > images.images.shape[1] else None

    def _net(self, num_classes: int) -> tuple[nn.Module, str, str]:
        """The network with the weights to start from, its name, and what those weights are."""
        ghn = self.load_ghn()
        choice = self.choose()
        if self.auxiliary and not isinstance(choice.net, Architecture):
            raise OptionError(
                f"`auxiliary`: {choice.name} is of torchvision; DeepNets-1M networks have such classifiers"
            )
        extra = {"auxiliary": True} if self.auxiliary else {}
        net, origin = self.make(choice, ghn, num_classes, **extra)
        if self.beta:
            perturb_(net, "noise", self.beta, self.seed)
            origin += f", with noise of {self.beta:g}"
        return net, choice.name, origin

    def _config(self, steps_per_epoch: int) -> NetTrainConfig:
        return NetTrainConfig(
            self.epochs,
            steps_per_epoch,
            opt=self.opt,
            lr=self.lr,
            wd=self.wd,
            grad_clip=self.grad_clip,
            scheduler=self.scheduler,
            label_smoothing=0.1 if self.dataset == "imagenet" else 0.0,
            drop_path_prob=self.drop_path_prob,
            auxiliary_weight=self.auxiliary_weight,
            amp=self.amp,
            seed=self.seed,
            save_interval=self.save_interval,
            log_interval=self.log_interval,
        )


def _logits(net: Callable[[Tensor], Tensor], device: torch.device, images: Tensor) -> Tensor:
    return net(images.to(device))
