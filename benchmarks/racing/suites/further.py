"""Further small networks, on which no rule of a policy is fitted: they judge it."""

from __future__ import annotations

from racing.entrant import ATTENTION, DENSE, ONE_D, PERCEPTRON, RECURRENT, TWO_D, Entrant
from racing.nets import attention, images, sequences, tables, thin
from racing.suites.small import Listed, entrants_of

__all__ = ["entrants"]

_VGG = (16, None, 32, None, 64, 64, None, 128, 128, None)


def entrants() -> list[Entrant]:
    """15 networks, of families, data sets or norms that the suite small does not have together."""
    listed: list[Listed] = [
        ("VGG-11-BN, thin", TWO_D, "tiny-imagenet-20", "sgd", 200, lambda: images.plain_vgg(3, 20, _VGG, norm=True)),
        ("ResNeXt, thin", TWO_D, "imagenette-32", "sgd", 200, lambda: thin.thin_resnext(10)),
        ("EfficientNet, thin", TWO_D, "tiny-imagenet-20", "sgd", 200, lambda: thin.thin_efficientnet(20)),
        ("ConvMixer, thin", TWO_D, "imagenette-32", "adamw", 200, lambda: thin.thin_convmixer(10)),
        ("ResNet-18, group norms", TWO_D, "imagenette-32", "sgd", 200, lambda: thin.thin_group_norm_resnet(10)),
        (
            "ResNet-18, thin, spectra",
            TWO_D,
            "spoken-spectra",
            "sgd",
            150,
            lambda: thin.thin_resnet(10, bottleneck=False, channels=1),
        ),
        (
            "MobileNetV2, thin, spectra",
            TWO_D,
            "spoken-spectra",
            "sgd",
            150,
            lambda: thin.thin_mobilenet_v2(10, channels=1),
        ),
        ("Swin, thin", ATTENTION, "imagenette-32", "adamw", 200, lambda: thin.thin_swin(10)),
        ("MLP-Mixer, thin", PERCEPTRON, "fashion", "adamw", 200, lambda: thin.thin_mixer(10, 1)),
        ("detector, thin", DENSE, "penn-fudan-boxes", "adamw", 150, lambda: thin.thin_detector(5)),
        ("BERT-like, news", ATTENTION, "ag-news", "adamw", 150, lambda: attention.TextEncoder(5000, 40, 4, 64, 4, 4)),
        (
            "LSTM, motions",
            RECURRENT,
            "BasicMotions",
            "adamw",
            200,
            lambda: sequences.RecurrentSeries(6, 4, "LSTM", 64),
        ),
        ("ResNet-1D, arrow heads", ONE_D, "ArrowHead", "adamw", 200, lambda: sequences.ResNet1d(1, 3, 32)),
        ("MLP of wine, small", PERCEPTRON, "table: wine", "adamw", 200, lambda: tables.perceptron(13, 3, (64, 64))),
        (
            "MLP of diabetes, small",
            PERCEPTRON,
            "table: diabetes",
            "adamw",
            200,
            lambda: tables.perceptron(10, 1, (64, 64)),
        ),
    ]
    return entrants_of("further", listed)
