"""Eight networks trained to the end, forty passes over most of the data: what a start costs late."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from racing.data.texts import CHARACTERS
from racing.entrant import ATTENTION, RECURRENT, TWO_D, Entrant, Optimizer
from racing.nets import attention, packages, sequences

__all__ = ["entrants"]


def entrants() -> list[Entrant]:
    """Five convolutional networks, on pictures and on spectra, and three others."""
    listed: list[tuple[str, str, str, Optimizer, int, Callable[[], nn.Module]]] = [
        ("ResNet-18", TWO_D, "imagenette-32", "sgd", 3200, lambda: packages.torchvision_net("resnet18", 10)),
        ("MobileNetV2", TWO_D, "imagenette-32", "sgd", 3200, lambda: packages.torchvision_net("mobilenet_v2", 10)),
        (
            "ShuffleNetV2",
            TWO_D,
            "tiny-imagenet-20",
            "sgd",
            5000,
            lambda: packages.torchvision_net("shufflenet_v2_x0_5", 20),
        ),
        ("ResNet-18", TWO_D, "spoken-spectra", "sgd", 1200, lambda: packages.timm_net("resnet18", 10, 64, 1)),
        ("MobileNetV2", TWO_D, "spoken-spectra", "sgd", 1200, lambda: packages.timm_net("mobilenetv2_100", 10, 64, 1)),
        ("ViT", ATTENTION, "fashion", "adamw", 6000, lambda: attention.VisionTransformer(1, 32, 10, 4, 64, 4, 4)),
        ("GPT", ATTENTION, "shakespeare-64", "adamw", 6000, lambda: attention.Gpt(CHARACTERS, 64, 64, 4, 4)),
        ("LSTM", RECURRENT, "trec", "adamw", 6000, lambda: sequences.RecurrentText(2000, 6, "LSTM", 64)),
    ]
    return [
        Entrant(f"{name} on {task}, to the end", kind, task, ("end",), optimizer, steps, build)
        for name, kind, task, optimizer, steps, build in listed
    ]
