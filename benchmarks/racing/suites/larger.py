"""Networks for texts, sound, time series, tables and dense outputs, at sizes that ask for a GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import nn

from racing.data.texts import CHARACTERS
from racing.entrant import ATTENTION, DENSE, ONE_D, PERCEPTRON, RECURRENT, TWO_D, Entrant, Optimizer
from racing.nets import attention, images, packages, sequences, tables

__all__ = ["entrants"]


def entrants() -> list[Entrant]:
    """The networks of the suites text, sound, dense, tables and series."""
    listed: list[tuple[str, str, str, str, Optimizer, int, Callable[[], nn.Module]]] = [
        (
            "GPT, 192 × 6",
            "text",
            ATTENTION,
            "shakespeare-256",
            "adamw",
            600,
            lambda: attention.Gpt(CHARACTERS, 256, 192, 6, 6),
        ),
        (
            "Llama-like, 192 × 6",
            "text",
            ATTENTION,
            "shakespeare-256",
            "adamw",
            600,
            lambda: attention.Llama(CHARACTERS, 256, 192, 6, 6),
        ),
        (
            "BERT-like, 192 × 6",
            "text",
            ATTENTION,
            "ag-news",
            "adamw",
            400,
            lambda: attention.TextEncoder(5000, 40, 4, 192, 6, 6),
        ),
        (
            "BERT-like, 192 × 6, reviews",
            "text",
            ATTENTION,
            "imdb",
            "adamw",
            400,
            lambda: attention.TextEncoder(10_000, 200, 2, 192, 6, 6),
        ),
        (
            "LSTM, 192 × 2",
            "text",
            RECURRENT,
            "imdb",
            "adamw",
            400,
            lambda: sequences.RecurrentText(10_000, 2, "LSTM", 192, 2),
        ),
        (
            "GRU, 192 × 2",
            "text",
            RECURRENT,
            "ag-news",
            "adamw",
            400,
            lambda: sequences.RecurrentText(5000, 4, "GRU", 192, 2),
        ),
        ("text CNN, 100 filters", "text", ONE_D, "imdb", "adamw", 400, lambda: sequences.TextCnn(10_000, 2, 128, 100)),
        ("M5", "sound", ONE_D, "spoken-digits", "adamw", 400, lambda: sequences.M5(10, 128)),
        ("ResNet-1D, digits", "sound", ONE_D, "spoken-digits", "adamw", 300, lambda: sequences.ResNet1d(1, 10, 64)),
        ("spectrum CNN, 32", "sound", TWO_D, "spoken-spectra", "sgd", 400, lambda: images.SpectrumNet(1, 10, 32)),
        (
            "ResNet-18, spectra",
            "sound",
            TWO_D,
            "spoken-spectra",
            "sgd",
            400,
            lambda: packages.timm_net("resnet18", 10, 64, channels=1),
        ),
        (
            "MobileNetV2, spectra",
            "sound",
            TWO_D,
            "spoken-spectra",
            "sgd",
            400,
            lambda: packages.timm_net("mobilenetv2_100", 10, 64, channels=1),
        ),
        ("U-Net", "dense", DENSE, "penn-fudan-192", "adamw", 400, lambda: images.UNet(3, 1, 32, 4)),
        (
            "FCN, ResNet-50",
            "dense",
            DENSE,
            "penn-fudan-192",
            "adamw",
            400,
            lambda: packages.segmentation_net("fcn_resnet50"),
        ),
        (
            "DeepLabV3, ResNet-50",
            "dense",
            DENSE,
            "penn-fudan-192",
            "adamw",
            400,
            lambda: packages.segmentation_net("deeplabv3_resnet50"),
        ),
        (
            "LR-ASPP, MobileNetV3",
            "dense",
            DENSE,
            "penn-fudan-192",
            "adamw",
            400,
            lambda: packages.segmentation_net("lraspp_mobilenet_v3_large"),
        ),
        (
            "detector, ResNet-18",
            "dense",
            DENSE,
            "penn-fudan-boxes",
            "adamw",
            600,
            lambda: packages.grid_detector("resnet18"),
        ),
        (
            "detector, ResNet-50",
            "dense",
            DENSE,
            "penn-fudan-boxes",
            "adamw",
            600,
            lambda: packages.grid_detector("resnet50"),
        ),
        ("autoencoder, 64", "dense", DENSE, "fashion-pictures", "adamw", 600, lambda: images.Autoencoder(1, 64, 64)),
        (
            "MLP, digits",
            "tables",
            PERCEPTRON,
            "table: digits",
            "adamw",
            400,
            lambda: tables.perceptron(64, 10, (256, 256, 256)),
        ),
        ("MLP, wine", "tables", PERCEPTRON, "table: wine", "adamw", 200, lambda: tables.perceptron(13, 3, (64, 64))),
        (
            "MLP, breast cancer",
            "tables",
            PERCEPTRON,
            "table: breast cancer",
            "adamw",
            200,
            lambda: tables.perceptron(30, 2, (64, 64)),
        ),
        (
            "MLP, diabetes",
            "tables",
            PERCEPTRON,
            "table: diabetes",
            "adamw",
            200,
            lambda: tables.perceptron(10, 1, (64, 64)),
        ),
    ]
    for name, channels, n_classes in (
        ("OSULeaf", 1, 6), ("ArrowHead", 1, 3), ("GunPoint", 1, 2), ("ItalyPowerDemand", 1, 2), ("ACSF1", 1, 10),
        ("BasicMotions", 6, 4), ("JapaneseVowels_eq", 12, 9),
    ):  # fmt: skip
        makers: tuple[tuple[str, str, Callable[[], nn.Module]], ...] = (
            ("ResNet-1D", ONE_D, functools.partial(sequences.ResNet1d, channels, n_classes, 64)),
            ("InceptionTime", ONE_D, functools.partial(sequences.InceptionTime, channels, n_classes, 32)),
            ("LSTM", RECURRENT, functools.partial(sequences.RecurrentSeries, channels, n_classes, "LSTM", 64)),
        )
        listed += [(f"{title}, {name}", "series", kind, name, "adamw", 300, make) for title, kind, make in makers]
    return [
        Entrant(name, kind, task, (suite,), optimizer, steps, build)
        for name, suite, kind, task, optimizer, steps, build in listed
    ]
