"""What the training of a network is made from, as `onnx-ghn train-net` asks for it. No torch."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from onnx_ghn.settings import Settings, ghn_setting, setting
from onnx_ghn.training.settings import ImageData, RunConfig, RunFolder

__all__ = ["NETWORK_SPLITS", "SPLITS", "NetRunFolder", "NetSettings", "NetTraining", "StartingNet", "Width"]

#: Whose rules draw networks: those of `deepnets1m.SPLITS`, without its imports.
SPLITS = ("train", "val", "test", "wide", "deep", "dense", "bnfree", "search")
#: Where one network is found.
NETWORK_SPLITS = (*SPLITS, "predefined", "torchvision")
#: What sets channels and classifier width: the file or generator (32, in split `wide` 128), or training's random draw.
Width = Literal["split", "train"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartingNet(Settings):
    """Which network to train, and from which weights."""

    split: str = setting("predefined", "Split of DeepNets-1M.", choices=NETWORK_SPLITS)
    arch: str = setting(
        "DARTS", "Network: DARTS, PDARTS, ResNet-50, ViT, an index of the split, or a torchvision name."
    )
    file: str | None = setting(
        None, "File of DeepNets-1M architectures (.hdf5 or .jsonl); without one, the split is sampled."
    )
    arch_seed: int = setting(1111, "Random seed of the sampled split.", least=0)
    init_channels: int | None = setting(
        None, "Initial channels of DARTS and PDARTS (default: 36, or 48 for 224 × 224 images).", least=1
    )
    layers: int | None = setting(
        None, "Number of cells of DARTS and PDARTS (default: 20, or 14 for 224 × 224 images).", least=1
    )
    imsize: int = setting(
        32,
        "Image size that the network is made for (default: 32, for imagenet 224).",
        choices=(32, 224),
        imagenet=224,
    )
    ckpt: str | None = ghn_setting("Start from what this GHN predicts", check="")  # after the others
    pretrained: bool = setting(False, "Start from torchvision's ImageNet weights.")
    init: Literal["rand", "orth", "kaiming"] = setting(
        "rand", "Random weights to start from: the layers' own (rand), orthogonal (orth), or Kaiming's."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetTraining(RunConfig):
    """How to train. Published defaults for CIFAR-10: SGD with momentum 0.9, rate 0.025, decay 3e-4, clipping at 5."""

    epochs: int = setting(
        600, "Passes over the images (default: 600, for imagenet 250); 0 evaluates only.", "-e", least=0, imagenet=250
    )
    opt: str = "sgd"
    lr: float = setting(
        0.025, "Learning rate (default: 0.025, for imagenet 0.1).", above=0, below=math.inf, imagenet=0.1
    )
    wd: float = setting(
        3e-4, "Weight decay (default: 3e-4, for imagenet 3e-5).", least=0, below=math.inf, imagenet=3e-5
    )
    grad_clip: float = 5.0
    scheduler: Literal["cosine", "exponential", "constant"] = setting(
        "cosine", "Learning rate schedule (default: cosine, for imagenet exponential).", imagenet="exponential"
    )  # by epoch; exponential: times 0.97 each
    drop_path_prob: float = setting(
        0.0, "Probability of dropping a path at the end.", least=0, below=1
    )  # grows linearly
    auxiliary_weight: float = setting(0.4, "Weight of the loss of the auxiliary classifier.", least=0, below=math.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _NetImages(Settings):
    batch_size: int = setting(96, "Images per step (default: 96, for imagenet 128).", "-b", least=1, imagenet=128)
    n_shots: int | None = setting(None, "Number of training images of each class (default: all).", least=1)
    beta: float = setting(
        0.0,
        "Noise to add to the initial weights, as a share of each tensor's spread.",
        least=0,
        below=math.inf,
        shown=False,
    )
    cutout: bool = setting(False, "Blank a square of each training image.")
    cutout_length: int = setting(16, "Side of that square.", least=1)
    auxiliary: bool = setting(False, "Train with an auxiliary classifier.")
    images: Literal["val", "test"] = setting("test", "Images to judge on.")
    noise: bool = setting(False, "Also judge on images with Gaussian noise.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetSettings(ImageData, StartingNet, _NetImages, NetTraining):
    """The images, the network and the way to train it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetRunFolder(RunFolder):
    """A run of this training."""

    name: str = "NET"
