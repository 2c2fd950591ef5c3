"""Small networks of all kinds, each run a matter of seconds on one core."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from racing.data.texts import CHARACTERS
from racing.entrant import ATTENTION, DENSE, ONE_D, PERCEPTRON, RECURRENT, TWO_D, Entrant, Optimizer
from racing.nets import attention, images, packages, sequences, tables, thin

__all__ = ["Listed", "entrants", "entrants_of"]

#: Name, kind, task, optimizer, steps, and what builds it.
Listed = tuple[str, str, str, Optimizer, int, Callable[[], nn.Module]]

_ADAMW = (0.01, 3.16e-3, 1e-3)  # narrow networks and short budgets ask for more than others


def entrants() -> list[Entrant]:
    """24 networks."""
    listed: list[Listed] = [
        ("ResNet-18, thin", TWO_D, "imagenette-32", "sgd", 200, lambda: thin.thin_resnet(10, bottleneck=False)),
        ("ResNet-50, thin", TWO_D, "tiny-imagenet-20", "sgd", 200, lambda: thin.thin_resnet(20, bottleneck=True)),
        ("MobileNetV2, thin", TWO_D, "imagenette-32", "sgd", 200, lambda: thin.thin_mobilenet_v2(10)),
        ("MobileNetV3, thin", TWO_D, "tiny-imagenet-20", "sgd", 200, lambda: thin.thin_mobilenet_v3(20)),
        ("ShuffleNetV2, thin", TWO_D, "imagenette-32", "sgd", 200, lambda: packages.small("shufflenet_v2_x0_5", 10)),
        ("DenseNet, thin", TWO_D, "tiny-imagenet-20", "sgd", 200, lambda: thin.thin_densenet(20)),
        ("RegNet, thin", TWO_D, "tiny-imagenet-20", "sgd", 200, lambda: thin.thin_regnet(20)),
        ("ConvNeXt, thin", TWO_D, "imagenette-32", "adamw", 200, lambda: thin.thin_convnext(10)),
        (
            "VGG without norm",
            TWO_D,
            "fashion",
            "sgd",
            200,
            lambda: images.plain_vgg(1, 10, (16, None, 32, 32, None, 64, 64, None), norm=False),
        ),
        ("LeNet", TWO_D, "fashion", "sgd", 400, lambda: images.LeNet(1, 10)),
        (
            "ViT, small",
            ATTENTION,
            "fashion",
            "adamw",
            200,
            lambda: attention.VisionTransformer(1, 32, 10, 4, 64, 4, 4),
        ),
        ("spectrum CNN", TWO_D, "spoken-spectra", "sgd", 150, lambda: images.SpectrumNet(1, 10, 8)),
        ("U-Net, small", DENSE, "penn-fudan-64", "adamw", 100, lambda: images.UNet(3, 1, 8, 3)),
        ("autoencoder", DENSE, "fashion-pictures", "adamw", 400, lambda: images.Autoencoder(1, 16, 32)),
        ("text CNN", ONE_D, "trec", "adamw", 400, lambda: sequences.TextCnn(2000, 6, 64, 64)),
        ("LSTM, small", RECURRENT, "trec", "adamw", 400, lambda: sequences.RecurrentText(2000, 6, "LSTM", 64)),
        ("GRU, small", RECURRENT, "ag-news", "adamw", 200, lambda: sequences.RecurrentText(5000, 4, "GRU", 64)),
        ("BERT-like, small", ATTENTION, "trec", "adamw", 300, lambda: attention.TextEncoder(2000, 20, 6, 64, 4, 4)),
        ("GPT, small", ATTENTION, "shakespeare-64", "adamw", 300, lambda: attention.Gpt(CHARACTERS, 64, 64, 4, 4)),
        (
            "Llama-like, small",
            ATTENTION,
            "shakespeare-64",
            "adamw",
            300,
            lambda: attention.Llama(CHARACTERS, 64, 64, 4, 4),
        ),
        ("M5, small", ONE_D, "spoken-digits", "adamw", 200, lambda: sequences.M5(10, 16)),
        ("ResNet-1D, small", ONE_D, "OSULeaf", "adamw", 200, lambda: sequences.ResNet1d(1, 6, 32)),
        ("InceptionTime, small", ONE_D, "JapaneseVowels_eq", "adamw", 200, lambda: sequences.InceptionTime(12, 9, 16)),
        ("MLP", PERCEPTRON, "table: digits", "adamw", 400, lambda: tables.perceptron(64, 10, (128, 128))),
    ]
    return entrants_of("small", listed)


def entrants_of(suite: str, listed: Sequence[Listed]) -> list[Entrant]:
    """Small networks as entrants of a suite."""
    return [
        Entrant(name, kind, task, (suite,), optimizer, steps, build, _ADAMW if optimizer == "adamw" else ())
        for name, kind, task, optimizer, steps, build in listed
    ]
