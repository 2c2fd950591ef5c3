"""The network of a training command with the weights to start from, as its options describe them."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from onnx_ghn.deepnets1m import Architecture
from onnx_ghn.errors import OptionError
from onnx_ghn.ghn import GHN, load_ghn
from onnx_ghn.training.nets.networks import Choice, choose, make_module
from onnx_ghn.training.nets.settings import StartingNet
from onnx_ghn.training.weights import kaiming_, load_tensors, perturb_, predict_net

__all__ = ["chosen", "make_net", "starting_ghn"]

_SMALL = 32  # the size of images for which a network has its small form


def chosen(start: StartingNet) -> Choice:
    """The network, at the size that is asked for.

    Raises:
        OptionError: no such network, or one whose sizes are fixed. DataError: a damaged file.
    """
    (choice,) = choose(
        start.split, arch=start.arch, file=start.file, seed=start.arch_seed, large_images=start.imsize != _SMALL
    )
    sizes = {"C": start.init_channels, "n_cells": start.layers}
    changes = {key: value for key, value in sizes.items() if value is not None}
    if changes:
        if not isinstance(choice.net, Architecture):
            raise OptionError(f"`init_channels`, `layers`: {choice.name} is of torchvision, whose sizes are fixed")
        choice = dataclasses.replace(choice, net=choice.net.replace(**changes))
    return choice


def starting_ghn(start: StartingNet) -> GHN | None:
    """The GHN whose prediction it starts from.

    Raises:
        CheckpointError: no such GHN. OptionError: several weights to start from.
    """
    if sum((bool(start.ckpt), start.pretrained, start.init != "rand")) > 1:
        raise OptionError("`ckpt`, `pretrained` and `init` are different weights to start from: choose one")
    return load_ghn(start.ckpt) if start.ckpt else None


def make_net(
    start: StartingNet, choice: Choice, ghn: GHN | None, num_classes: int, seed: int, **network_options: object
) -> tuple[nn.Module, str]:
    """A module with the weights to start from, and what these are.

    Args:
        choice: as `chosen` gives it.
        ghn: as `starting_ghn` gives it.
        num_classes: of the classifier.
        seed: of random weights.
        network_options: of `Network`.

    Raises:
        OptionError: no pretrained weights. GraphError: a network that cannot be exported to predict it.
    """
    torch.manual_seed(seed)
    is_small = start.imsize == _SMALL
    net = make_module(choice, num_classes, small_images=is_small, pretrained=start.pretrained, **network_options)
    if ghn is not None:
        load_tensors(net, predict_net(ghn, choice.net, net, num_classes, start.imsize))
        return net, f"predicted by {ghn.config.name or start.ckpt}"
    if start.pretrained:
        return net, "pretrained on ImageNet"
    if start.init == "kaiming":
        return kaiming_(net, seed), "Kaiming's random weights"
    if start.init == "orth":
        return perturb_(net, "orthogonal", 1.0, seed), "orthogonal random weights"
    return net, "torch's random weights"
