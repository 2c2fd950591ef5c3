"""The network of a training command with the weights to start from, as its options describe them."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from onnx_ghn.deepnets1m import Architecture
from onnx_ghn.errors import OptionError
from onnx_ghn.ghn import GHN, load_ghn
from onnx_ghn.training.nets.networks import Choice, choose, make_module
from onnx_ghn.training.weights import kaiming_, load_tensors, perturb_, predict_net

__all__ = ["StartingNet"]

_SMALL = 32  # the size of images for which a network has its small form


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartingNet:
    """Which network to train, and from which weights.

    Raises:
        OptionError: several weights to start from.
    """

    split: str  # of DeepNets-1M, predefined, or torchvision
    arch: str
    file: str | None  # of DeepNets-1M architectures
    arch_seed: int  # of a sampled split
    init_channels: int | None
    layers: int | None
    imsize: int  # of the images that the network is made for
    ckpt: str | None  # start from what this GHN predicts
    pretrained: bool  # start from torchvision's ImageNet weights
    init: str  # else start from random weights: rand (torch's), kaiming or orth
    seed: int

    def __post_init__(self) -> None:
        if sum((bool(self.ckpt), self.pretrained, self.init != "rand")) > 1:
            raise OptionError("`ckpt`, `pretrained` and `init` are different weights to start from: choose one")

    def choose(self) -> Choice:
        """The network, at the size that is asked for.

        Raises:
            OptionError: no such network, or one whose sizes are fixed. DataError: a damaged file.
        """
        (choice,) = choose(
            self.split, arch=self.arch, file=self.file, seed=self.arch_seed, large_images=self.imsize != _SMALL
        )
        sizes = {"C": self.init_channels, "n_cells": self.layers}
        changes = {key: value for key, value in sizes.items() if value is not None}
        if changes:
            if not isinstance(choice.net, Architecture):
                raise OptionError(f"`init_channels`, `layers`: {choice.name} is of torchvision, whose sizes are fixed")
            choice = dataclasses.replace(choice, net=choice.net.replace(**changes))
        return choice

    def load_ghn(self) -> GHN | None:
        """The GHN whose prediction it starts from. Raises CheckpointError."""
        return load_ghn(self.ckpt) if self.ckpt else None

    def make(
        self, choice: Choice, ghn: GHN | None, num_classes: int, **network_options: object
    ) -> tuple[nn.Module, str]:
        """A module with the weights to start from, and what these are.

        Args:
            choice: as `choose` gives it.
            ghn: as `load_ghn` gives it.
            num_classes: of the classifier.
            network_options: of `Network`.

        Raises:
            OptionError: no pretrained weights. GraphError: a network that cannot be exported to predict it.
        """
        torch.manual_seed(self.seed)
        is_small = self.imsize == _SMALL
        net = make_module(choice, num_classes, small_images=is_small, pretrained=self.pretrained, **network_options)
        if ghn is not None:
            load_tensors(net, predict_net(ghn, choice.net, net, num_classes, self.imsize))
            return net, f"predicted by {ghn.config.name or self.ckpt}"
        if self.pretrained:
            return net, "pretrained on ImageNet"
        if self.init == "kaiming":
            return kaiming_(net, self.seed), "Kaiming's random weights"
        if self.init == "orth":
            return perturb_(net, "orthogonal", 1.0, self.seed), "orthogonal random weights"
        return net, "torch's random weights"
