"""The network of a training command with the weights to start from, by the options that all of them have."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from onnx_ghn.deepnets1m import Architecture
from onnx_ghn.errors import OptionError
from onnx_ghn.ghn import GHN, load_ghn
from onnx_ghn.training.nets.networks import Choice, choose, make_module
from onnx_ghn.training.weights import kaiming_, load_tensors, perturb_, predict_net

__all__ = ["chosen_net", "starting_ghn", "starting_net"]


def chosen_net(options: Mapping[str, Any]) -> Choice:
    """By --split, --arch, --file, --arch_seed and --imsize, with the sizes of --init_channels and --layers.

    Raises:
        OptionError: no such network, or one whose sizes are fixed. DataError: a damaged file.
    """
    told = {"arch": options["arch"], "file": options["file"], "seed": options["arch_seed"]}
    (choice,) = choose(options["split"], large_images=int(options["imsize"]) != 32, **told)
    sizes = {"C": options["init_channels"], "n_cells": options["layers"]}
    changes = {key: value for key, value in sizes.items() if value is not None}
    if changes:
        if not isinstance(choice.net, Architecture):
            raise OptionError(f"--init_channels, --layers: {choice.name} is of torchvision, whose sizes are fixed")
        choice = dataclasses.replace(choice, net=choice.net.replace(**changes))
    return choice


def starting_ghn(options: Mapping[str, Any]) -> GHN | None:
    """That of --ckpt. Raises OptionError where other weights are asked for, too; CheckpointError."""
    if sum((bool(options["ckpt"]), options["pretrained"], options["init"] != "rand")) > 1:
        raise OptionError("--ckpt, --pretrained and --init are different weights to start from: choose one")
    return load_ghn(options["ckpt"]) if options["ckpt"] else None


def starting_net(
    choice: Choice, options: Mapping[str, Any], ghn: GHN | None, num_classes: int, **network_options: object
) -> tuple[nn.Module, str]:
    """A module with the weights of --ckpt, --pretrained or --init, else torch's random ones, and what they are.

    Raises:
        OptionError: no pretrained weights. GraphError: a network that cannot be exported to predict it.
    """
    size = int(options["imsize"])
    torch.manual_seed(options["seed"])
    net = make_module(choice, num_classes, small_images=size == 32, pretrained=options["pretrained"], **network_options)
    if ghn is not None:
        load_tensors(net, predict_net(ghn, choice.net, net, num_classes, size))
        return net, f"predicted by {ghn.config.name or options['ckpt']}"
    if options["pretrained"]:
        return net, "pretrained on ImageNet"
    if options["init"] == "kaiming":
        return kaiming_(net, options["seed"]), "Kaiming's random weights"
    if options["init"] == "orth":
        return perturb_(net, "orthogonal", 1.0, options["seed"]), "orthogonal random weights"
    return net, "torch's random weights"
