"""The networks that race: what they learn, how long, by which optimizer, and in which suites."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from torch import nn

from racing.nets import attention, images, packages, sequences, tables
from racing.tasks import TASKS

__all__ = ["ENTRANTS", "RATES", "SUITES", "Entrant", "Optimizer", "select"]

Optimizer = Literal["sgd", "adamw"]

#: Grids of rates, a factor of √10 apart.
RATES: dict[Optimizer, tuple[float, ...]] = {"sgd": (0.1, 0.0316, 0.01), "adamw": (3.16e-3, 1e-3, 3.16e-4)}
_SMALL_ADAMW = (0.01, 3.16e-3, 1e-3)  # narrow networks and short budgets ask for more

_2D, _1D, _ATTENTION, _RECURRENT, _DENSE, _OTHER = (
    "2-D convolutional classifier", "1-D convolutions", "transformer", "recurrent", "dense output", "perceptron",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Entrant:
    """A network on a task.

    Attributes:
        kind: of networks, for the table.
        steps: of training, before `--budget-factor`.
        build: draws it with torch's defaults.
    """

    name: str
    kind: str
    task: str
    suites: tuple[str, ...]
    optimizer: Optimizer
    steps: int
    build: Callable[[], nn.Module]
    rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"{self.name}: there is no task {self.task!r}")
        if not self.rates:
            object.__setattr__(self, "rates", RATES[self.optimizer])


def _small() -> list[Entrant]:
    """Of all kinds, each a matter of seconds on one core."""
    chars = 65
    listed = [
        ("ResNet-18, thin", _2D, "imagenette-32", "sgd", 200, lambda: packages.thin_resnet(10, bottleneck=False)),
        ("ResNet-50, thin", _2D, "tiny-imagenet-20", "sgd", 200, lambda: packages.thin_resnet(20, bottleneck=True)),
        ("MobileNetV2, thin", _2D, "imagenette-32", "sgd", 200, lambda: packages.thin_mobilenet_v2(10)),
        ("MobileNetV3, thin", _2D, "tiny-imagenet-20", "sgd", 200, lambda: packages.thin_mobilenet_v3(20)),
        ("ShuffleNetV2, thin", _2D, "imagenette-32", "sgd", 200, lambda: packages.small("shufflenet_v2_x0_5", 10)),
        ("DenseNet, thin", _2D, "tiny-imagenet-20", "sgd", 200, lambda: packages.thin_densenet(20)),
        ("RegNet, thin", _2D, "tiny-imagenet-20", "sgd", 200, lambda: packages.thin_regnet(20)),
        ("ConvNeXt, thin", _2D, "imagenette-32", "adamw", 200, lambda: packages.thin_convnext(10)),
        (
            "VGG without norm",
            _2D,
            "fashion",
            "sgd",
            200,
            lambda: images.plain_vgg(1, 10, (16, None, 32, 32, None, 64, 64, None), norm=False),
        ),
        ("LeNet", _2D, "fashion", "sgd", 400, lambda: images.LeNet(1, 10)),
        (
            "ViT, small",
            _ATTENTION,
            "fashion",
            "adamw",
            200,
            lambda: attention.VisionTransformer(1, 32, 10, 4, 64, 4, 4),
        ),
        ("spectrum CNN", _2D, "spoken-spectra", "sgd", 150, lambda: images.SpectrumNet(1, 10, 8)),
        ("U-Net, small", _DENSE, "penn-fudan-64", "adamw", 100, lambda: images.UNet(3, 1, 8, 3)),
        ("autoencoder", _DENSE, "fashion-pictures", "adamw", 400, lambda: images.Autoencoder(1, 16, 32)),
        ("text CNN", _1D, "trec", "adamw", 400, lambda: sequences.TextCnn(2000, 6, 64, 64)),
        ("LSTM, small", _RECURRENT, "trec", "adamw", 400, lambda: sequences.RecurrentText(2000, 6, "LSTM", 64)),
        ("GRU, small", _RECURRENT, "ag-news", "adamw", 200, lambda: sequences.RecurrentText(5000, 4, "GRU", 64)),
        ("BERT-like, small", _ATTENTION, "trec", "adamw", 300, lambda: attention.TextEncoder(2000, 20, 6, 64, 4, 4)),
        ("GPT, small", _ATTENTION, "shakespeare-64", "adamw", 300, lambda: attention.Gpt(chars, 64, 64, 4, 4)),
        ("Llama-like, small", _ATTENTION, "shakespeare-64", "adamw", 300, lambda: attention.Llama(chars, 64, 64, 4, 4)),
        ("M5, small", _1D, "spoken-digits", "adamw", 200, lambda: sequences.M5(10, 16)),
        ("ResNet-1D, small", _1D, "OSULeaf", "adamw", 200, lambda: sequences.ResNet1d(1, 6, 32)),
        ("InceptionTime, small", _1D, "JapaneseVowels_eq", "adamw", 200, lambda: sequences.InceptionTime(12, 9, 16)),
        ("MLP", _OTHER, "table: digits", "adamw", 400, lambda: tables.perceptron(64, 10, (128, 128))),
    ]
    return [
        Entrant(name, kind, task, ("small",), optimizer, steps, build, _SMALL_ADAMW if optimizer == "adamw" else ())
        for name, kind, task, optimizer, steps, build in listed
    ]


def _images() -> list[Entrant]:
    """torchvision's and timm's families."""
    found = []
    sgd, adamw = "sgd", "adamw"
    for name, optimizer in (
        ("resnet18", sgd), ("resnet50", sgd), ("mobilenet_v2", sgd), ("mobilenet_v3_large", sgd),
        ("efficientnet_b0", sgd), ("regnet_y_400mf", sgd), ("shufflenet_v2_x1_0", sgd), ("googlenet", sgd),
        ("densenet121", sgd), ("vgg11_bn", sgd), ("convnext_tiny", adamw), ("swin_t", adamw),
    ):  # fmt: skip
        kind = _ATTENTION if name == "swin_t" else _2D

        def large(n_classes: int, name: str = name) -> nn.Module:
            return packages.torchvision_net(name, n_classes)

        def small(n_classes: int, name: str = name) -> nn.Module:
            return packages.small(name, n_classes)

        # bound now, as the loop goes on
        found.append(_on("imagenette-128", name, kind, optimizer, 300, lambda large=large: large(10)))
        if name not in ("swin_t", "googlenet"):  # which have no form for small images
            found.append(_on("tiny-imagenet-200", name, kind, optimizer, 600, lambda small=small: small(200)))
    for name, optimizer, kind in (
        ("resnext50_32x4d", sgd, _2D), ("seresnet50", sgd, _2D), ("ghostnet_100", sgd, _2D), ("repvgg_a0", sgd, _2D),
        ("efficientnetv2_rw_t", sgd, _2D), ("mobileone_s0", sgd, _2D), ("convmixer_768_32", adamw, _2D),
        ("convnext_atto", adamw, _2D), ("poolformer_s12", adamw, _2D), ("edgenext_x_small", adamw, _ATTENTION),
        ("resmlp_12_224", adamw, _OTHER), ("mixer_s16_224", adamw, _OTHER), ("vit_tiny_patch16_224", adamw, _ATTENTION),
        ("xcit_nano_12_p16_224", adamw, _ATTENTION),
    ):  # fmt: skip
        found.append(
            _on("imagenette-64", name, kind, optimizer, 300, lambda name=name: packages.timm_net(name, 10, 64))
        )
    vit = _on(
        "imagenette-64", "vit 192 × 9", _ATTENTION, adamw, 300,
        lambda: attention.VisionTransformer(3, 64, 10, 8, 192, 9, 3),
    )  # fmt: skip
    return [*found, vit]


def _on(task: str, name: str, kind: str, optimizer: Optimizer, steps: int, build: Callable[[], nn.Module]) -> Entrant:
    return Entrant(f"{name} on {task}", kind, task, ("images",), optimizer, steps, build)


def _others() -> list[Entrant]:
    """Larger networks for texts, sound, series, tables and dense outputs."""
    chars = 65
    listed: list[tuple[str, str, str, str, Optimizer, int, Callable[[], nn.Module]]] = [
        (
            "GPT, 192 × 6",
            "text",
            _ATTENTION,
            "shakespeare-256",
            "adamw",
            600,
            lambda: attention.Gpt(chars, 256, 192, 6, 6),
        ),
        (
            "Llama-like, 192 × 6",
            "text",
            _ATTENTION,
            "shakespeare-256",
            "adamw",
            600,
            lambda: attention.Llama(chars, 256, 192, 6, 6),
        ),
        (
            "BERT-like, 192 × 6",
            "text",
            _ATTENTION,
            "ag-news",
            "adamw",
            400,
            lambda: attention.TextEncoder(5000, 40, 4, 192, 6, 6),
        ),
        (
            "BERT-like, 192 × 6, reviews",
            "text",
            _ATTENTION,
            "imdb",
            "adamw",
            400,
            lambda: attention.TextEncoder(10_000, 200, 2, 192, 6, 6),
        ),
        (
            "LSTM, 192 × 2",
            "text",
            _RECURRENT,
            "imdb",
            "adamw",
            400,
            lambda: sequences.RecurrentText(10_000, 2, "LSTM", 192, 2),
        ),
        (
            "GRU, 192 × 2",
            "text",
            _RECURRENT,
            "ag-news",
            "adamw",
            400,
            lambda: sequences.RecurrentText(5000, 4, "GRU", 192, 2),
        ),
        ("text CNN, 100 filters", "text", _1D, "imdb", "adamw", 400, lambda: sequences.TextCnn(10_000, 2, 128, 100)),
        ("M5", "sound", _1D, "spoken-digits", "adamw", 400, lambda: sequences.M5(10, 128)),
        ("ResNet-1D, digits", "sound", _1D, "spoken-digits", "adamw", 300, lambda: sequences.ResNet1d(1, 10, 64)),
        ("spectrum CNN, 32", "sound", _2D, "spoken-spectra", "sgd", 400, lambda: images.SpectrumNet(1, 10, 32)),
        (
            "ResNet-18, spectra",
            "sound",
            _2D,
            "spoken-spectra",
            "sgd",
            400,
            lambda: packages.timm_net("resnet18", 10, 64, channels=1),
        ),
        (
            "MobileNetV2, spectra",
            "sound",
            _2D,
            "spoken-spectra",
            "sgd",
            400,
            lambda: packages.timm_net("mobilenetv2_100", 10, 64, channels=1),
        ),
        ("U-Net", "dense", _DENSE, "penn-fudan-192", "adamw", 400, lambda: images.UNet(3, 1, 32, 4)),
        (
            "FCN, ResNet-50",
            "dense",
            _DENSE,
            "penn-fudan-192",
            "adamw",
            400,
            lambda: packages.segmentation_net("fcn_resnet50"),
        ),
        (
            "DeepLabV3, ResNet-50",
            "dense",
            _DENSE,
            "penn-fudan-192",
            "adamw",
            400,
            lambda: packages.segmentation_net("deeplabv3_resnet50"),
        ),
        (
            "LR-ASPP, MobileNetV3",
            "dense",
            _DENSE,
            "penn-fudan-192",
            "adamw",
            400,
            lambda: packages.segmentation_net("lraspp_mobilenet_v3_large"),
        ),
        (
            "detector, ResNet-18",
            "dense",
            _DENSE,
            "penn-fudan-boxes",
            "adamw",
            600,
            lambda: packages.grid_detector("resnet18"),
        ),
        (
            "detector, ResNet-50",
            "dense",
            _DENSE,
            "penn-fudan-boxes",
            "adamw",
            600,
            lambda: packages.grid_detector("resnet50"),
        ),
        ("autoencoder, 64", "dense", _DENSE, "fashion-pictures", "adamw", 600, lambda: images.Autoencoder(1, 64, 64)),
        (
            "MLP, digits",
            "tables",
            _OTHER,
            "table: digits",
            "adamw",
            400,
            lambda: tables.perceptron(64, 10, (256, 256, 256)),
        ),
        ("MLP, wine", "tables", _OTHER, "table: wine", "adamw", 200, lambda: tables.perceptron(13, 3, (64, 64))),
        (
            "MLP, breast cancer",
            "tables",
            _OTHER,
            "table: breast cancer",
            "adamw",
            200,
            lambda: tables.perceptron(30, 2, (64, 64)),
        ),
        (
            "MLP, diabetes",
            "tables",
            _OTHER,
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
        for title, kind, make in (
            ("ResNet-1D", _1D, lambda c=channels, n=n_classes: sequences.ResNet1d(c, n, 64)),
            ("InceptionTime", _1D, lambda c=channels, n=n_classes: sequences.InceptionTime(c, n, 32)),
            ("LSTM", _RECURRENT, lambda c=channels, n=n_classes: sequences.RecurrentSeries(c, n, "LSTM", 64)),
        ):
            listed.append((f"{title}, {name}", "series", kind, name, "adamw", 300, make))
    return [
        Entrant(name, kind, task, (suite,), opt, steps, build) for name, suite, kind, task, opt, steps, build in listed
    ]


ENTRANTS: dict[str, Entrant] = {entrant.name: entrant for entrant in (*_small(), *_images(), *_others())}
SUITES: tuple[str, ...] = tuple(dict.fromkeys(suite for entrant in ENTRANTS.values() for suite in entrant.suites))


def select(suites: tuple[str, ...], names: tuple[str, ...]) -> list[Entrant]:
    """The entrants of some suites (of all, where there are none), and of them those that are meant by one of `names`.

    A name means the network of that name, and where there is none, all whose names contain it.
    """
    found = [entrant for entrant in ENTRANTS.values() if not suites or set(suites) & set(entrant.suites)]

    def meant(entrant: Entrant, name: str) -> bool:
        return entrant.name == name if name in ENTRANTS else name.lower() in entrant.name.lower()

    return [entrant for entrant in found if not names or any(meant(entrant, name) for name in names)]
